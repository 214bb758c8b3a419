"""The configuration of CAT-Seg: its keys (:mod:`catseg.keys`) from files and command lines, and the rules between them.

The tree holds what is read and nothing else.
"""

from catseg.keys import KEYS
from d2host import CfgNode
from d2host.engine.config import Configuration
from d2host.engine.errors import ConfigError
from d2host.engine.keys import declare

CHANNELS_PER_GROUP = 16  # of the decoder's normalisation
MOST_WINDOWS = 1024  # of one image


def add_catseg_config(cfg: CfgNode) -> None:
    """Declare the project's keys in a tree, empty or a host's, in place; ``SOLVER`` takes the place of the host's."""
    cfg.SOLVER = CfgNode()
    declare(cfg, KEYS)


def _check_rules(cfg: CfgNode) -> None:
    for shorter, longer in ((max(cfg.INPUT.MIN_SIZE_TRAIN), "TRAIN"), (cfg.INPUT.MIN_SIZE_TEST, "TEST")):
        if cfg.INPUT[f"MAX_SIZE_{longer}"] < shorter:
            raise ConfigError(
                f"INPUT.MAX_SIZE_{longer} is {cfg.INPUT[f'MAX_SIZE_{longer}']}: it must be at least the {shorter} "
                f"pixels of INPUT.MIN_SIZE_{longer}"
            )
    _check_head(cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.ENCODER.GRID)
    if cfg.TEST.SLIDING_WINDOW.ENABLED:
        _check_windows(cfg.TEST.SLIDING_WINDOW)


def _check_head(head: CfgNode, grid: int) -> None:
    """What the layers' shapes ask of each other."""
    if head.HIDDEN_DIM % head.NUM_HEADS:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.HIDDEN_DIM {head.HIDDEN_DIM} does not divide by NUM_HEADS {head.NUM_HEADS}"
        )
    if max(head.POOLING_SIZE) > grid:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.POOLING_SIZE is {tuple(head.POOLING_SIZE)}: it must be at most the {grid} tokens per "
            "side of MODEL.ENCODER.GRID"
        )
    for channels in head.DECODER_DIMS:
        if channels % max(channels // CHANNELS_PER_GROUP, 1):
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.DECODER_DIMS is {tuple(head.DECODER_DIMS)}: {channels} channels cannot be "
                f"normalised in groups, so choose a multiple of {CHANNELS_PER_GROUP}"
            )
    inputs = (head.HIDDEN_DIM, head.DECODER_DIMS[0])
    for stage, (channels, guidance) in enumerate(zip(inputs, head.DECODER_GUIDANCE_PROJECTED_DIMS, strict=True)):
        if guidance >= channels:  # each stage's guidance replaces some of its input channels
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_PROJECTED_DIMS[{stage}] is {guidance}: it must be less than the "
                f"{channels} channels that decoder stage {stage} takes (HIDDEN_DIM, then DECODER_DIMS[0])"
            )


def _check_windows(windows: CfgNode) -> None:
    """Windows fit, advance, and are no more than can be segmented."""
    stride = int(windows.KERNEL * (1 - windows.OVERLAP))
    if windows.KERNEL > windows.SIZE:
        raise ConfigError(
            f"TEST.SLIDING_WINDOW.KERNEL is {windows.KERNEL}: it must be at most TEST.SLIDING_WINDOW.SIZE "
            f"{windows.SIZE}"
        )
    if stride < 1 or (-(-(windows.SIZE - windows.KERNEL) // stride) + 1) ** 2 > MOST_WINDOWS:
        raise ConfigError(
            f"TEST.SLIDING_WINDOW.KERNEL {windows.KERNEL} with OVERLAP {windows.OVERLAP} makes more than "
            f"{MOST_WINDOWS} windows of an image of SIZE {windows.SIZE}: raise the one or lower the other"
        )


_CONFIGURATION = Configuration(KEYS, _check_rules)
get_catseg_cfg, check_config = _CONFIGURATION.read, _CONFIGURATION.check
