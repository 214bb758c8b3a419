"""From a configuration to the parts of a distillation."""

import torch

from d2host import CfgNode
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.data.image_sources import list_images
from declip.data.root import dataset_root
from declip.distill.dataset import DistillationDataset
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.task import Distillation, DistillationForm, LossWeights, Teachers
from declip.distill.views import DistillationViews, ViewSizes
from declip.models.factory import build_encoder, known_weights
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher


def build_distillation(cfg: CfgNode) -> Distillation:
    """Student and teachers on ``MODEL.DEVICE``, with what does not train frozen.

    Weights that are random are drawn from ``SEED`` alone, so that every process of a run has the same teachers.

    Raises:
        ConfigError, CheckpointError: a model or its weights cannot be had.
    """
    with torch.random.fork_rng():
        torch.manual_seed(max(cfg.SEED, 0))
        return _build(cfg)


def _build(cfg: CfgNode) -> Distillation:
    options, form = cfg.MODEL.ENCODER, DistillationForm(cfg.MODEL.DISTILL.FORM)
    device = torch.device(cfg.MODEL.DEVICE)
    if not options.WEIGHTS:
        raise ConfigError(f"MODEL.ENCODER.WEIGHTS is empty: give {known_weights(options.NAME)}")
    student = build_encoder(options.NAME, options.WEIGHTS, options.CONTEXT, options.ATTENTION_SCALE)
    student.to(device)
    original = frozen_copy(student)
    student.recompute = cfg.MODEL.DISTILL.RECOMPUTE
    choose_trainable(student, form, cfg.MODEL.DISTILL.LAST_N_BLOCKS)
    weights = LossWeights(cfg.MODEL.DISTILL.CONTENT_WEIGHT, cfg.MODEL.DISTILL.CONTEXT_WEIGHT)
    clip_teacher = ClipTeacher(original, precision=_teacher_precision(cfg))
    teachers = Teachers(clip_teacher, build_foundation_teacher(cfg))
    return Distillation(student, teachers, form, weights, cfg.MODEL.DISTILL.ROWS_AT_ONCE)


def _teacher_precision(cfg: CfgNode) -> Precision:
    """Autocast's, unless weights are to be interpolated with the original's, which then stay exact."""
    amp = cfg.SOLVER.AMP
    return Precision(amp.DTYPE) if amp.ENABLED and cfg.MODEL.DISTILL.ENSEMBLE_ALPHA == 1 else Precision.FP32


def build_foundation_teacher(cfg: CfgNode) -> FoundationTeacher | None:
    """The teacher of ``MODEL.TEACHER`` on ``MODEL.DEVICE``; None for the form ``self``.

    Raises:
        ConfigError, CheckpointError: the teacher or its weights cannot be had.
    """
    if cfg.MODEL.DISTILL.FORM == DistillationForm.SELF:
        return None
    options = cfg.MODEL.TEACHER
    return FoundationTeacher(options.NAME, options.WEIGHTS, Precision(options.PRECISION)).to(cfg.MODEL.DEVICE)


def build_dataset(cfg: CfgNode, model: Distillation) -> DistillationDataset:
    """The images of ``DATASETS.IMAGES`` and the views that ``model`` takes.

    Raises:
        DataError: the source does not exist or holds no image.
        ConfigError: the grids of student and teacher cannot match.
    """
    foundation = model.teachers.foundation
    sizes = ViewSizes(
        cfg.INPUT.STUDENT_SIZE,
        model.student.patch_size,
        foundation.patch_size if foundation else 0,
        cfg.INPUT.CROP_SIZE or model.student.image_size,
    )
    records = list_images(cfg.DATASETS.IMAGES, cfg.DATASETS.IMAGE_ROOT, dataset_root())
    views = DistillationViews(sizes, cfg.INPUT.MAX_SPLIT, cfg.INPUT.MAX_CROPS)
    return DistillationDataset(records, views, max(cfg.SEED, 0))
