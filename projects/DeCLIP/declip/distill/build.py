"""From a configuration to the parts of a distillation."""

import logging
import os

import torch

from d2host import CfgNode
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from d2host.engine.precision import Precision, amp_precision
from d2host.engine.tensor_cache import TensorCache
from declip.data.detection.proposals import load_proposals
from declip.data.image_sources import list_images
from declip.data.region_sets import RegionSet, load_region_set
from declip.data.root import dataset_root
from declip.data.shards import are_shards, find_shards
from declip.data.whole_images import load_captions, load_classes
from declip.distill.dataset import DistillationDataset, ShardedViews
from declip.distill.step import Distillation
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.views import DistillationViews, ViewSizes
from declip.evaluation.class_token import ClassTokenSets
from declip.losses import (
    ContentLoss,
    ContextLoss,
    Direction,
    DistillationLoss,
    KLDistance,
    RegionCorrelationLoss,
    l2_distance,
)
from declip.models.encoder import DenseCLIP
from declip.models.factory import build_encoder, known_weights
from declip.plugins import from_plugins
from declip.teachers.base import FrozenTeacher
from declip.teachers.clip import ClipTeacher
from declip.teachers.completed import Completed, Order
from declip.teachers.diffusion import DiffusionOptions, Fusion, load_diffusion
from declip.teachers.foundation import FoundationTeacher

PROBE = 8  # side of the grid on which a diffusion model is tried before training, tokens


def check_inputs(cfg: CfgNode, training: bool) -> None:
    """Refuse weights, images and regions that do not exist, before anything is built; none is read yet.

    Raises:
        ConfigError: a run needs some, and none are named.
        CheckpointError, DataError: what is named does not exist.
    """
    known = from_plugins("datasets")
    if cfg.MODEL.WEIGHTS and not os.path.isfile(cfg.MODEL.WEIGHTS):
        raise CheckpointError(f"checkpoint {cfg.MODEL.WEIGHTS} does not exist: check MODEL.WEIGHTS")
    if not cfg.DATASETS.IMAGES:
        raise ConfigError("DATASETS.IMAGES is empty: name a folder of images, a list, shards, or nano_train")
    sources = {"DATASETS.IMAGES": cfg.DATASETS.IMAGES}
    sources |= {f"TEST.{name}": cfg.TEST[name] for name in ("REGIONS", "CAPTIONS")}
    if not training and not (cfg.TEST.REGIONS or cfg.TEST.CAPTIONS or cfg.TEST.CLASSES):
        raise ConfigError(
            "TEST.REGIONS is empty, as are TEST.CAPTIONS and TEST.CLASSES: name labelled regions to evaluate on"
        )
    if cfg.DATASETS.PROPOSALS and not os.path.isfile(cfg.DATASETS.PROPOSALS):
        raise DataError(f"DATASETS.PROPOSALS is '{cfg.DATASETS.PROPOSALS}', which does not exist: give a .npz or .json")
    if cfg.TEST.CLASSES and not os.path.isdir(cfg.TEST.CLASSES):
        raise DataError(
            f"TEST.CLASSES is '{cfg.TEST.CLASSES}', which is no folder: give one that holds a folder of images for "
            "each class"
        )
    for key, source in sources.items():
        elsewhere = key == "DATASETS.IMAGES" and are_shards(source)
        if elsewhere and source not in known:
            find_shards(source)
        elif source and not (source in known or os.path.exists(source)):
            raise DataError(f"{key} is '{source}', which does not exist: give a path, or one of {', '.join(known)}")


def build_distillation(cfg: CfgNode) -> Distillation:
    """Student, teachers and terms on ``MODEL.DEVICE``, with what does not train frozen.

    A teacher that no term needs is not built. Weights that are random are drawn from ``SEED`` alone, so that every
    process of a run has the same teachers.

    Raises:
        ConfigError, CheckpointError: a model or its weights cannot be had.
    """
    with torch.random.fork_rng():
        torch.manual_seed(max(cfg.SEED, 0))
        return _build(cfg).to(cfg.MODEL.DEVICE)


def _build(cfg: CfgNode) -> Distillation:
    options, distill, teacher = cfg.MODEL.ENCODER, cfg.MODEL.DISTILL, cfg.MODEL.TEACHER
    if not options.WEIGHTS:
        raise ConfigError(f"MODEL.ENCODER.WEIGHTS is empty: give {known_weights(options.NAME)}")
    student = build_encoder(options.NAME, options.WEIGHTS, options.CONTEXT, options.ATTENTION_SCALE)
    terms = _terms(cfg, student.patch_size)
    needs = [kind for term in terms.values() for kind in term.needs]
    clip, foundation = (
        any(issubclass(each.gives, kind) for kind in needs) for each in (ClipTeacher, FoundationTeacher)
    )
    view_sizes(cfg, student, crops=clip)
    if options.WEIGHTS == "random":
        logging.getLogger(__name__).warning(
            "MODEL.ENCODER.WEIGHTS is random: a random CLIP teaches its student nothing"
        )
    try:
        choose_trainable(student, {term.feature for term in terms.values()}, distill.LAST_N_BLOCKS)
    except ValueError as error:
        raise ConfigError(f"MODEL.DISTILL.LAST_N_BLOCKS is impossible: {error}") from error
    interpolates = distill.ENSEMBLE_ALPHA < 1
    teachers: dict[str, FrozenTeacher] = {}
    original = None
    if interpolates:
        original = frozen_copy(student)
    if clip:
        # weights to interpolate with stay exact, and one copy serves both
        precision = Precision.FP32 if interpolates else amp_precision(cfg.SOLVER.AMP, cfg.MODEL.DEVICE)
        teachers["clip"] = ClipTeacher(original or frozen_copy(student), precision=precision)
    if foundation:
        precision = Precision(teacher.PRECISION)
        teachers["foundation"] = FoundationTeacher(teacher.NAME, teacher.WEIGHTS, precision, teacher.LAYER)
    if cfg.MODEL.DIFFUSION.NAME:
        teachers["foundation"] = _completed(cfg, teachers["foundation"])
    student.recompute = distill.RECOMPUTE
    weights = {name: distill[name.upper()].WEIGHT for name in terms}
    return Distillation(student, teachers, terms, weights, original, distill.ENSEMBLE_ALPHA)


def _completed(cfg: CfgNode, foundation: FoundationTeacher) -> Completed:
    """The foundation model with affinities completed as ``MODEL.DIFFUSION`` says."""
    keys = cfg.MODEL.DIFFUSION
    options = DiffusionOptions(
        layers=tuple(keys.LAYERS),
        timestep=keys.TIMESTEP,
        steps=keys.STEPS,
        threshold=keys.THRESHOLD,
        fusion=Fusion(keys.FUSION),
        cells=keys.CELLS,
        seed=max(cfg.SEED, 0),
    )
    diffusion = load_diffusion(keys.NAME, keys.WEIGHTS, Precision(keys.PRECISION), options)
    side = PROBE * diffusion.pixels
    diffusion(torch.zeros(3, side, side), grid=(PROBE, PROBE), noise="")  # levels that cannot serve are refused here
    cache = None
    if keys.CACHE:
        limit = int(keys.CACHE_LIMIT * 2**30)
        cache = TensorCache(keys.CACHE, diffusion.fingerprint(), limit, "MODEL.DIFFUSION.CACHE")
    return Completed(foundation, diffusion, Order(keys.ORDER), cache)


def _terms(cfg: CfgNode, patch_size: int) -> dict[str, DistillationLoss]:
    """The losses of ``MODEL.DISTILL.TERMS``, by name, in that order."""
    context, regions = cfg.MODEL.DISTILL.CONTEXT, cfg.MODEL.DISTILL.REGION_CORRELATION
    logits, divergence = context.NORMALIZED == "attention", Direction(context.DIRECTION)
    distance = KLDistance(context.TEMPERATURE, 1.0 if logits else None, divergence)
    known = {
        "content": ContentLoss(patch_size),
        "context": ContextLoss(
            context.FEATURE, distance if context.DISTANCE == "kl" else l2_distance, context.ROWS, logits
        ),
        "region_correlation": RegionCorrelationLoss(
            patch_size, KLDistance(regions.TEMPERATURE, direction=Direction(regions.DIRECTION)), regions.POINTS
        ),
    }
    return {name: known[name] for name in cfg.MODEL.DISTILL.TERMS}


def view_sizes(
    cfg: CfgNode, student: DenseCLIP, foundation_patch: int = 0, crops: bool = True, diffusion_patch: int = 0
) -> ViewSizes:
    """The sizes of ``INPUT``, for a student, the pixels per token of other models, and crops where CLIP teaches.

    Raises:
        ConfigError: they are no multiples of the student's patch size.
    """
    crop = (cfg.INPUT.CROP_SIZE or student.image_size) if crops else 0
    try:
        return ViewSizes(cfg.INPUT.STUDENT_SIZE, student.patch_size, foundation_patch, crop, diffusion_patch)
    except ValueError as error:
        raise ConfigError(f"INPUT.STUDENT_SIZE or INPUT.CROP_SIZE is impossible: {error}") from error


def build_dataset(cfg: CfgNode, model: Distillation) -> DistillationDataset | ShardedViews:
    """The images of ``DATASETS.IMAGES`` and the views that ``model`` takes.

    Raises:
        DataError: the source does not exist or holds no image, or an image has no proposals.
        ConfigError: the grids of student and teacher cannot match.
    """
    teachers = model.teachers
    foundation = dict(teachers).get("foundation")
    foundation_patch = foundation.patch_size if foundation else 0
    diffusion_patch = foundation.diffusion.pixels if isinstance(foundation, Completed) else 0
    sizes = view_sizes(cfg, model.student, foundation_patch, "clip" in teachers, diffusion_patch)
    source, proposals = cfg.DATASETS.IMAGES, None
    if cfg.DATASETS.PROPOSALS:
        proposals = load_proposals(cfg.DATASETS.PROPOSALS)
    views = DistillationViews(sizes, cfg.INPUT.MAX_SPLIT, cfg.INPUT.MAX_CROPS, proposals)
    if are_shards(source):
        return ShardedViews(find_shards(source), cfg.SOLVER.IMS_PER_BATCH, views, max(cfg.SEED, 0))
    records = list_images(source, cfg.DATASETS.IMAGE_ROOT, dataset_root())
    if proposals:
        proposals.check(record.path for record in records)
    return DistillationDataset(records, views, max(cfg.SEED, 0))


def build_regions(cfg: CfgNode) -> RegionSet | None:
    """The regions of ``TEST.REGIONS`` to validate on; None where it is empty.

    Raises:
        DataError: they cannot be had, or files of those to validate on are missing.
    """
    if not cfg.TEST.REGIONS:
        return None
    regions = load_region_set(cfg.TEST.REGIONS, cfg.TEST.IMAGE_ROOT, dataset_root())
    regions.first(cfg.TEST.MAX_IMAGES)
    return regions


def build_class_token_sets(cfg: CfgNode) -> ClassTokenSets | None:
    """The images of ``TEST.CAPTIONS`` and ``TEST.CLASSES`` to validate class tokens on; None where both are empty.

    Raises:
        DataError: they cannot be had.
    """
    keys = cfg.TEST
    if not (keys.CAPTIONS or keys.CLASSES):
        return None
    captions = load_captions(keys.CAPTIONS, keys.CAPTIONS_ROOT, dataset_root()) if keys.CAPTIONS else None
    return ClassTokenSets(captions, load_classes(keys.CLASSES) if keys.CLASSES else None)
