"""Every configuration key of nano pre-training, with its default and what it means."""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode
from d2host.engine.config import add_run_config, add_solver_config, check_solver
from d2host.engine.config_file import check_at_least, check_choices, read_config
from d2host.engine.errors import ConfigError

CLIP, VFM = "clip", "vfm"


def get_pretraining_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a recipe.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, or a value impossible.
    """
    keys_in = "nanoworld/pretraining/config.py or d2host/engine/config.py"
    cfg = read_config(add_pretraining_config, config_file, opts, keys_in)
    check_config(cfg)
    return cfg


def add_pretraining_config(cfg: CfgNode) -> None:
    """Declare the keys of nano pre-training in a tree, empty or a host's, in place.

    ``MODEL.WEIGHTS`` may also name shipped weights, or a file that an earlier run has left.
    """
    add_run_config(cfg)
    options = cfg.MODEL.PRETRAINING = CfgNode()
    options.KIND = CLIP  # clip (photos and captions), vfm (images alone)
    options.PHOTOS_PER_SCENE = 4  # clip: the whole scene, and close-ups
    options.PHOTO_SIZE = 128  # clip: side of the photos, pixels
    options.HIDDEN_SHARE = 0.4  # vfm: share of the patches of a view that are hidden
    options.REPULSION = 32.0  # vfm: weight of the features of unlike places being orthogonal
    options.VIEW_SIZE = 96  # vfm: side of a view, pixels
    add_solver_config(
        cfg,
        BASE_LR=1e-3,
        WEIGHT_DECAY=0.1,  # of matrices; vectors do not decay
        BETAS=(0.9, 0.98),
        EPS=1e-6,
        MAX_ITER=5000,
        WARMUP_ITERS=200,
        IMS_PER_BATCH=32,  # scenes
        CLIP_GRADIENTS={"ENABLED": True},
        AMP={"ENABLED": True},
        CHECKPOINT_PERIOD=500,
        MAX_CHECKPOINTS=2,
    )
    cfg.TEST.EVAL_PERIOD = 500  # iterations between evaluations
    cfg.TEST.SCENE_SEED = 2  # series of the scenes to evaluate on; 2 is that of nano_val
    cfg.TEST.MAX_IMAGES = 100  # scenes


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    options = cfg.MODEL.PRETRAINING
    check_solver(cfg)
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
