"""The configuration of F-ViT: its keys (:mod:`fvit.keys`) from files and command lines, and the rules between them."""

from d2host import CfgNode
from d2host.engine.config import Configuration
from d2host.engine.errors import ConfigError
from d2host.engine.keys import declare
from fvit.keys import KEYS


def add_fvit_config(cfg: CfgNode) -> None:
    """Declare the keys in a tree, empty or a host's, in place; groups of the host's keep no other key."""
    for group in ("SOLVER", "INPUT", "TEST"):
        cfg[group] = CfgNode()
    declare(cfg, KEYS)


def _check_rules(cfg: CfgNode) -> None:
    if cfg.INPUT.MAX_SCALE < cfg.INPUT.MIN_SCALE:
        raise ConfigError(f"INPUT.MAX_SCALE is {cfg.INPUT.MAX_SCALE}: it must be at least INPUT.MIN_SCALE")
    if cfg.MODEL.ENCODER.CACHE and not cfg.INPUT.MIN_SCALE == cfg.INPUT.MAX_SCALE <= 1:
        raise ConfigError(
            "MODEL.ENCODER.CACHE keeps features of training images, but at random scales none comes twice: set "
            "INPUT.MIN_SCALE and MAX_SCALE to one value of at most 1, or give no cache"
        )
    if min(cfg.MODEL.PIXEL_STD, default=1) <= 0:
        raise ConfigError(f"MODEL.PIXEL_STD is {tuple(cfg.MODEL.PIXEL_STD)}: every value must be above 0")
    if list(cfg.SOLVER.STEPS) != sorted({*cfg.SOLVER.STEPS}):
        raise ConfigError(f"SOLVER.STEPS is {tuple(cfg.SOLVER.STEPS)}: iterations must rise")
    if list(cfg.MODEL.ENCODER.BLOCKS) != sorted(cfg.MODEL.ENCODER.BLOCKS):
        raise ConfigError(f"MODEL.ENCODER.BLOCKS is {tuple(cfg.MODEL.ENCODER.BLOCKS)}: early blocks come first")


_CONFIGURATION = Configuration(KEYS, _check_rules)
get_fvit_cfg, check_config = _CONFIGURATION.read, _CONFIGURATION.check
