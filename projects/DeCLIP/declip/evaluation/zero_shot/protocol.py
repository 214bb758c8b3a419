"""Settings of dense zero-shot evaluation, as published per dataset.

Sources: DeCLIP (CVPR 2025), Table 5, and ClearCLIP (ECCV 2024), as their released code has them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from d2host.engine.errors import ConfigError
from declip.plugins import from_plugins

LONGEST_SIDE = 10_000  # pixels; no limit in practice: only the shorter side is prescribed

DATASETS = {
    "voc21": "voc_2012_test_background_sem_seg",
    "context60": "context_60_test_sem_seg",
    "object": "coco_2017_test_object_sem_seg",
    "voc20": "voc_2012_test_sem_seg",
    "cityscapes": "cityscapes_19_test_sem_seg",
    "context59": "context_59_test_sem_seg",
    "ade150": "ade20k_150_test_sem_seg",
    "stuff": "coco_2017_test_stuff_all_sem_seg",
}
"""The eight columns of Table 5 by short name."""


@dataclass(frozen=True)
class Protocol:
    """How an image is looked at and decided on.

    Attributes:
        short_side: of the image, pixels, the longer at most eight times that; 0: as it is, up to 2^15 patches of the
            encoder, 2^13 where it is seen whole (larger ones are made smaller).
        window: side of a window, pixels; 0: the whole image at once.
        stride: between windows, pixels.
        logit_scale: factor on the cosines before the softmax.
        threshold: pixels whose best probability is below it are background, where there is such a class.
        stitch: whether windows meet in the last block, which then attends over the whole image.

    Raises:
        ConfigError: a value is out of range.
    """

    short_side: int = 448
    window: int = 336
    stride: int = 112
    logit_scale: float = 40.0
    threshold: float = 0.0
    stitch: bool = False

    def __post_init__(self) -> None:
        if not (min(self.short_side, self.window) >= 0 and 0 < self.logit_scale < math.inf and self.stride > 0):
            raise ConfigError(
                f"short side {self.short_side}, window {self.window}, stride {self.stride} and logit scale "
                f"{self.logit_scale} must be positive and finite (short side and window may be 0)"
            )
        if self.short_side > LONGEST_SIDE:
            raise ConfigError(f"short side {self.short_side} is too large: give at most {LONGEST_SIDE} pixels")
        if 0 < self.window < self.stride:
            raise ConfigError(
                f"stride {self.stride} leaves gaps between windows of {self.window} pixels: give at most their side"
            )
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold {self.threshold} must be in [0, 1)")


_DECLIP, _CLEARCLIP = Protocol(), Protocol(window=448, stride=224, logit_scale=50.0)

PRESETS: Mapping[str, Mapping[str, Protocol]] = {
    "declip": {
        "": _DECLIP,
        "voc21": replace(_DECLIP, threshold=0.4, logit_scale=80.0),
        "object": replace(_DECLIP, threshold=0.2),
        "context60": replace(_DECLIP, threshold=0.15),
    },
    "clearclip": {
        "": _CLEARCLIP,
        "voc21": replace(_CLEARCLIP, threshold=0.5),
        "object": replace(_CLEARCLIP, threshold=0.4),
        "context60": replace(_CLEARCLIP, threshold=0.15),
    },
}
"""Preset → short name of a dataset → settings; the empty name is every other dataset's. Plug-ins add others."""


def known_presets() -> tuple[str, ...]:
    """The names of all presets, those of plug-ins last."""
    return (*PRESETS, *from_plugins("presets"))


def protocol_of(preset: str, dataset: str) -> Protocol:
    """Settings of a preset for a dataset by short or full name.

    Raises:
        ConfigError: the preset is unknown.
    """
    added = from_plugins("presets")
    if preset not in known_presets():
        raise ConfigError(f"preset '{preset}' is unknown: choose among {', '.join(known_presets())}")
    short_names = {full: short for short, full in DATASETS.items()}
    settings = added[preset]() if preset in added else PRESETS[preset]
    return settings.get(short_names.get(dataset, dataset), settings[""])
