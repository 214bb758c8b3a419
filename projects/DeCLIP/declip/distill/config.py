"""Every configuration key of distillation, with its default and what it means."""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode
from d2host.engine.config import add_run_config, add_solver_config, check_solver
from d2host.engine.config_file import check_at_least, check_choices, read_config
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.distill.task import DistillationForm
from declip.models.attention import AttentionScale, ContextType


def add_distillation_config(cfg: CfgNode) -> None:
    """Declare the keys of distillation in a tree, empty or a host's, in place."""
    add_run_config(cfg)
    _add_models(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    test = cfg.TEST
    test.EVAL_PERIOD = 0  # iterations between validations by region classification; 0: none
    test.REGIONS = "nano_val"  # labelled regions to validate on: a COCO panoptic .json, or a nano split
    test.IMAGE_ROOT = ""  # folder of the images of a panoptic .json
    test.MAX_IMAGES = 100  # of that set


def _add_models(cfg: CfgNode) -> None:
    encoder = cfg.MODEL.ENCODER = CfgNode()
    encoder.NAME = "EVA02-B-16"  # an open_clip model name, or nano
    encoder.WEIGHTS = ""  # a weight file or an open_clip pretrained tag; empty: random weights
    encoder.CONTEXT = "qk"  # q, k, v, qk, all, maskclip, vanilla, catseg
    encoder.ATTENTION_SCALE = "sqrt_d"  # sqrt_d, none
    teacher = cfg.MODEL.TEACHER = CfgNode()
    teacher.NAME = "dinov2_vitb14"  # dinov2_vit{b,l}14, dino_vitb{8,16}, sam_vit{b,l}, nano-vfm, any timm ViT
    teacher.WEIGHTS = "pretrained"  # pretrained (downloaded), random, or a weight file
    teacher.PRECISION = "fp32"  # of the teacher's forward pass: fp32, bf16, fp16
    distill = cfg.MODEL.DISTILL = CfgNode()
    distill.FORM = "decoupled"  # decoupled (DeCLIP), joint (both losses on the content), self (content loss only)
    distill.CONTENT_WEIGHT = 1.0  # factor of the content loss
    distill.CONTEXT_WEIGHT = 0.25  # lambda of Eq. 10
    distill.LAST_N_BLOCKS = 0  # blocks of the image tower that train, from the last; 0: all, and the embeddings
    distill.ENSEMBLE_ALPHA = 1.0  # share of the student in the weights written: alpha*student + (1-alpha)*original
    distill.RECOMPUTE = False  # recompute the student's blocks in the backward pass: less memory, more time
    distill.ROWS_AT_ONCE = 256  # rows of a correlation matrix that exist at a time


def _add_data(cfg: CfgNode) -> None:
    datasets = cfg.setdefault("DATASETS", CfgNode())
    datasets.IMAGES = ""  # a folder, a COCO .json, a .txt list, .tar shards (also a pattern), or a nano split
    datasets.IMAGE_ROOT = ""  # where relative paths of a .json or .txt start; empty: the folder of that file
    inputs = cfg.setdefault("INPUT", CfgNode())
    inputs.STUDENT_SIZE = 560  # longer side of the student's view, a multiple of its patch size
    inputs.MAX_SPLIT = 6  # most rows or columns of the crop grid
    inputs.MAX_CROPS = 36  # most crops per image
    inputs.CROP_SIZE = 0  # side the CLIP teacher sees crops at, a multiple of its patch size; 0: its native side


def _add_solver(cfg: CfgNode) -> None:
    add_solver_config(
        cfg,
        BASE_LR=1e-5,
        WEIGHT_DECAY=0.1,  # of matrices; vectors do not decay
        BETAS=(0.9, 0.98),
        EPS=1e-6,
        MAX_ITER=44_358,  # 6 epochs of COCO train2017 at batch 16
        WARMUP_ITERS=1000,
        IMS_PER_BATCH=16,
        CHECKPOINT_PERIOD=1000,
    )


def get_distillation_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a file in ``projects/DeCLIP/configs``; empty: the defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value impossible.
    """
    keys_in = "declip/distill/config.py or d2host/engine/config.py"
    cfg = read_config(add_distillation_config, config_file, opts, keys_in)
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    encoder, distill = cfg.MODEL.ENCODER, cfg.MODEL.DISTILL
    check_solver(cfg)
    precisions = [precision.value for precision in Precision]
    check_choices(
        {
            "MODEL.ENCODER.CONTEXT": (encoder.CONTEXT, [kind.value for kind in ContextType]),
            "MODEL.ENCODER.ATTENTION_SCALE": (encoder.ATTENTION_SCALE, [scale.value for scale in AttentionScale]),
            "MODEL.DISTILL.FORM": (distill.FORM, [form.value for form in DistillationForm]),
            "MODEL.TEACHER.PRECISION": (cfg.MODEL.TEACHER.PRECISION, precisions),
        }
    )
    check_at_least(
        1,
        {
            "INPUT.MAX_SPLIT": cfg.INPUT.MAX_SPLIT,
            "INPUT.MAX_CROPS": cfg.INPUT.MAX_CROPS,
            "MODEL.DISTILL.ROWS_AT_ONCE": distill.ROWS_AT_ONCE,
        },
    )
    if not 0 < distill.ENSEMBLE_ALPHA <= 1:
        raise ConfigError(f"MODEL.DISTILL.ENSEMBLE_ALPHA is {distill.ENSEMBLE_ALPHA}: it must be in (0, 1]")
    if distill.FORM == DistillationForm.DECOUPLED and not ContextType(encoder.CONTEXT).decoupled:
        raise ConfigError(
            f"MODEL.DISTILL.FORM 'decoupled' needs a context feature, which MODEL.ENCODER.CONTEXT '{encoder.CONTEXT}' "
            "does not have: choose q, k, v, qk or all, or the form joint or self"
        )
