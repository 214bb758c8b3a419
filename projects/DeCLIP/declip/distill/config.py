"""Every configuration key of distillation, with its default and what it means."""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode
from d2host.engine.config import add_run_config, add_solver_config, check_solver
from d2host.engine.config_file import check_at_least, check_choices, read_config
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.losses.base import StudentFeature
from declip.losses.correlation import DISTANCES
from declip.models.attention import AttentionScale, ContextType

TERMS = ("content", "context")


def add_distillation_config(cfg: CfgNode) -> None:
    """Declare the keys of distillation in a tree, empty or a host's, in place."""
    add_run_config(cfg)
    _add_models(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    test = cfg.TEST
    test.EVAL_PERIOD = 0  # iterations between validations by region classification; 0: none
    test.REGIONS = ""  # labelled regions to validate on: a COCO panoptic .json, or a dataset of a plug-in; empty: none
    test.IMAGE_ROOT = ""  # folder of the images of a panoptic .json
    test.MAX_IMAGES = 100  # of that set


def _add_models(cfg: CfgNode) -> None:
    encoder = cfg.MODEL.ENCODER = CfgNode()
    encoder.NAME = "EVA02-B-16"  # an open_clip model name, or that of a plug-in (nano)
    encoder.WEIGHTS = ""  # a weight file, an open_clip pretrained tag, or random; to be given
    encoder.CONTEXT = "qk"  # q, k, v, qk, all, maskclip, vanilla, catseg
    encoder.ATTENTION_SCALE = "sqrt_d"  # sqrt_d, none
    teacher = cfg.MODEL.TEACHER = CfgNode()
    teacher.NAME = "dinov2_vitb14"  # dinov2_vit{s,b,l}14, dinov3_vit{s,b,l}16, ..., nano-vfm, or any timm ViT
    teacher.WEIGHTS = "pretrained"  # pretrained (downloaded), random, or a weight file
    teacher.LAYER = -1  # the block whose output is its feature, from 0; -1: the last
    teacher.PRECISION = "fp32"  # of the teacher's forward pass: fp32, bf16, fp16
    distill = cfg.MODEL.DISTILL = CfgNode()
    distill.TERMS = ["content", "context"]  # the losses whose weighted sum is learned, each with a node below
    content = distill.CONTENT = CfgNode()  # regions mean what CLIP sees in their crops (Eq. 7)
    content.WEIGHT = 1.0
    context = distill.CONTEXT = CfgNode()  # tokens belong together as the teacher's do (Eq. 8-9)
    context.WEIGHT = 0.25  # lambda of Eq. 10
    context.FEATURE = "context"  # of the student that learns: context (DeCLIP), content (not decoupled, Table 1)
    context.DISTANCE = "l2"  # between rows of the correlation matrices: l2
    context.ROWS = 256  # of a correlation matrix that exist at a time
    distill.LAST_N_BLOCKS = 0  # blocks of the image tower that train, from the last; 0: all, and the embeddings
    distill.ENSEMBLE_ALPHA = 1.0  # share of the student in what is evaluated and saved; the rest is the original's
    distill.RECOMPUTE = False  # recompute the student's blocks in the backward pass: less memory, more time


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
    check_choices(
        {
            "MODEL.ENCODER.CONTEXT": (encoder.CONTEXT, [kind.value for kind in ContextType]),
            "MODEL.ENCODER.ATTENTION_SCALE": (encoder.ATTENTION_SCALE, [scale.value for scale in AttentionScale]),
            "MODEL.TEACHER.PRECISION": (cfg.MODEL.TEACHER.PRECISION, [precision.value for precision in Precision]),
            "MODEL.DISTILL.CONTEXT.FEATURE": (distill.CONTEXT.FEATURE, [feature.value for feature in StudentFeature]),
            "MODEL.DISTILL.CONTEXT.DISTANCE": (distill.CONTEXT.DISTANCE, [*DISTANCES]),
        }
    )
    check_at_least(
        1,
        {
            "INPUT.MAX_SPLIT": cfg.INPUT.MAX_SPLIT,
            "INPUT.MAX_CROPS": cfg.INPUT.MAX_CROPS,
            "MODEL.DISTILL.CONTEXT.ROWS": distill.CONTEXT.ROWS,
        },
    )
    if not 0 < distill.ENSEMBLE_ALPHA <= 1:
        raise ConfigError(f"MODEL.DISTILL.ENSEMBLE_ALPHA is {distill.ENSEMBLE_ALPHA}: it must be in (0, 1]")
    if cfg.TEST.EVAL_PERIOD > 0 and not cfg.TEST.REGIONS:
        raise ConfigError(
            f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but TEST.REGIONS is empty: name a panoptic .json with "
            "regions to validate on, or set the period to 0"
        )
    check_terms(distill, ContextType(encoder.CONTEXT))


def check_terms(distill: CfgNode, context: ContextType) -> None:
    """Refuse terms of ``MODEL.DISTILL`` from which a student with that context type learns nothing.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    if not distill.TERMS:
        raise ConfigError(f"MODEL.DISTILL.TERMS is empty: name what to learn, of {', '.join(TERMS)}")
    for name in distill.TERMS:
        check_choices({"MODEL.DISTILL.TERMS": (name, TERMS)})
        if distill.TERMS.count(name) > 1:
            raise ConfigError(
                f"MODEL.DISTILL.TERMS names '{name}' twice: name it once, its WEIGHT says how much it counts"
            )
        weight = distill[name.upper()].WEIGHT
        if not 0 < weight < float("inf"):
            raise ConfigError(
                f"MODEL.DISTILL.{name.upper()}.WEIGHT is {weight}: it must be positive; to do without the term, leave "
                "it out of MODEL.DISTILL.TERMS"
            )
    if "context" in distill.TERMS and distill.CONTEXT.FEATURE == "context" and not context.decoupled:
        raise ConfigError(
            "MODEL.DISTILL.CONTEXT.FEATURE 'context' needs a context feature, which MODEL.ENCODER.CONTEXT "
            f"'{context.value}' does not have: choose q, k, v, qk or all, or the feature 'content'"
        )
