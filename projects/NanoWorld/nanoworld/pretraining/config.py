"""Every configuration key of nano pre-training, with its default and what it means."""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode, get_cfg
from d2host.engine.config_file import check_at_least, check_choices, check_solver, merge_config
from d2host.engine.errors import ConfigError

CLIP, VFM = "clip", "vfm"


def get_pretraining_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a file in ``projects/DeCLIP/configs``.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value impossible.
    """
    cfg = get_cfg()
    add_pretraining_config(cfg)
    merge_config(cfg, config_file, opts, keys_in="projects/DeCLIP/declip/nano/pretraining/config.py")
    check_config(cfg)
    return cfg


def add_pretraining_config(cfg: CfgNode) -> None:
    """Add the keys of nano pre-training to a host configuration, in place."""
    cfg.MODEL.DEVICE = "auto"  # auto: a GPU where there is one, else the CPU
    cfg.SEED = 0  # of random weights and scenes
    options = cfg.MODEL.PRETRAINING = CfgNode()
    options.KIND = CLIP  # clip (photos and captions), vfm (images alone)
    options.PHOTOS_PER_SCENE = 4  # clip: the whole scene, and close-ups
    options.PHOTO_SIZE = 128  # clip: side of the photos, pixels
    options.WEIGHTS = ""  # shipped name or file to start from, or to judge; empty: random weights
    options.HIDDEN_SHARE = 0.4  # vfm: share of the patches of a view that are hidden
    options.REPULSION = 32.0  # vfm: weight of the features of unlike places being orthogonal
    options.VIEW_SIZE = 96  # vfm: side of a view, pixels
    solver = cfg.SOLVER
    solver.BASE_LR = 1e-3
    solver.WEIGHT_DECAY = 0.1  # of matrices; vectors do not decay
    solver.BETAS = (0.9, 0.98)  # of AdamW
    solver.EPS = 1e-6  # of AdamW
    solver.MAX_ITER = 5000
    solver.WARMUP_ITERS = 200  # a linear warm-up, then half a cosine to zero
    solver.WARMUP_FACTOR = 0.0
    solver.IMS_PER_BATCH = 32  # scenes per batch, over all processes
    solver.ACCUMULATION_STEPS = 1
    solver.CLIP_GRADIENTS.ENABLED = True
    solver.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    solver.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    solver.AMP.ENABLED = True
    solver.AMP.DTYPE = "bf16"  # bf16, fp16 (fp16 needs a GPU)
    solver.CHECKPOINT_PERIOD = 500
    solver.MAX_CHECKPOINTS = 2
    cfg.TEST.EVAL_PERIOD = 500  # iterations between evaluations
    cfg.TEST.SCENE_SEED = 2  # series of the scenes to judge on; 2 is that of nano_val
    cfg.TEST.MAX_IMAGES = 100  # scenes


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    options = cfg.MODEL.PRETRAINING
    check_solver(cfg.SOLVER)
    check_choices({"MODEL.PRETRAINING.KIND": (options.KIND, [CLIP, VFM])})
    check_at_least(
        1,
        {
            "MODEL.PRETRAINING.PHOTOS_PER_SCENE": options.PHOTOS_PER_SCENE,
            "TEST.MAX_IMAGES": cfg.TEST.MAX_IMAGES,
        },
    )
    if not 0 <= options.HIDDEN_SHARE < 1:
        raise ConfigError(f"MODEL.PRETRAINING.HIDDEN_SHARE is {options.HIDDEN_SHARE}: it must be in [0, 1)")
    if options.REPULSION <= 0:
        raise ConfigError(f"MODEL.PRETRAINING.REPULSION is {options.REPULSION}: it must be above 0")
    for key, size in {
        "MODEL.PRETRAINING.PHOTO_SIZE": options.PHOTO_SIZE,
        "MODEL.PRETRAINING.VIEW_SIZE": options.VIEW_SIZE,
    }.items():
        if size < 16 or size % 8:
            raise ConfigError(f"{key} is {size}: it must be a multiple of 8, at least 16")
