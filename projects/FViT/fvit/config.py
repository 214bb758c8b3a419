"""The configuration of F-ViT: its keys (:mod:`fvit.keys`) from files and command lines, and the rules between them."""

from collections.abc import Sequence
from pathlib import Path

from d2host import CfgNode
from d2host.engine.config import check_warmup
from d2host.engine.config_file import read_config
from d2host.engine.errors import ConfigError
from d2host.engine.keys import check_keys, declare
from fvit.keys import KEYS


def add_fvit_config(cfg: CfgNode) -> None:
    """Declare the keys in a tree, empty or a host's, in place; groups of the host's keep no other key."""
    for group in ("SOLVER", "INPUT", "TEST"):
        cfg[group] = CfgNode()
    declare(cfg, KEYS)


def get_fvit_cfg(config_file: str | Path = "", opts: Sequence[str] = ()) -> CfgNode:
    """The configuration of a file with overrides, checked.

    Args:
        config_file: a path, or the bare name of a recipe; empty: the defaults.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or no config, a key is unknown, or a value impossible.
    """
    cfg = read_config(KEYS, config_file, opts)
    check_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Refuse values that can only fail later, in a tree that may have been filled by hand.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    check_keys(cfg, KEYS)
    check_warmup(cfg)
    if cfg.INPUT.MAX_SCALE < cfg.INPUT.MIN_SCALE:
        raise ConfigError(f"INPUT.MAX_SCALE is {cfg.INPUT.MAX_SCALE}: it must be at least INPUT.MIN_SCALE")
    if min(cfg.MODEL.PIXEL_STD, default=1) <= 0:
        raise ConfigError(f"MODEL.PIXEL_STD is {tuple(cfg.MODEL.PIXEL_STD)}: every value must be above 0")
    if list(cfg.SOLVER.STEPS) != sorted({*cfg.SOLVER.STEPS}):
        raise ConfigError(f"SOLVER.STEPS is {tuple(cfg.SOLVER.STEPS)}: iterations must rise")
    if list(cfg.MODEL.ENCODER.BLOCKS) != sorted(cfg.MODEL.ENCODER.BLOCKS):
        raise ConfigError(f"MODEL.ENCODER.BLOCKS is {tuple(cfg.MODEL.ENCODER.BLOCKS)}: early blocks come first")
