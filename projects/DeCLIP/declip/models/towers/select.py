"""Choosing the adapter for a model that open_clip built."""

import difflib
from collections.abc import Iterable

import open_clip
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from d2host.engine.errors import ConfigError
from declip.models.towers.base import ImageTower
from declip.models.towers.openclip import OpenCLIPTower
from declip.models.towers.text import TextTower
from declip.models.towers.timm import EVA_BLOCKS, VitTower

KINDS = {  # of image towers without an adapter, and why
    "ModifiedResNet": "its image tower is convolutional",
    "ConvNeXt": "its image tower is convolutional",
    "FastVit": "its image tower ends in a convolution",
    "SwinTransformer": "its image tower attends within windows",
    "VisionTransformerRelPos": "its image tower has relative positions of its native grid alone",
}
WITHOUT_A_TRANSFORMER = ("RN", "convnext", "swin", "MobileCLIP-S", "MobileCLIP2-S")  # how such names of open_clip begin


def select_tower(clip: nn.Module, name: str) -> tuple[ImageTower, TextTower]:
    """Adapters for the image and text tower of an open_clip model.

    Raises:
        ConfigError: the image tower is of a kind no adapter knows.
    """
    adapter = find_adapter(clip.visual)
    missing = missing_of_kind(clip.visual) if adapter is None else adapter.missing(clip.visual)
    if missing:
        raise ConfigError(f"encoder '{name}' is not supported ({missing}): {advice(name)}")
    return adapter(clip.visual), TextTower(clip)


def find_adapter(visual: nn.Module) -> type[ImageTower] | None:
    """The adapter for an image tower's anatomy, or None."""
    if isinstance(visual, VisionTransformer):
        return OpenCLIPTower
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, Eva):
        return EVA_BLOCKS.get(type(visual.trunk.blocks[0]))
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, TimmVisionTransformer):
        return VitTower
    return None


def missing_of_kind(visual: nn.Module) -> str:
    """Why an image tower has no adapter."""
    kind = type(getattr(visual, "trunk", visual)).__name__
    return KINDS.get(kind, f"no adapter for an image tower of type {kind}")


def advice(name: str, added: Iterable[str] = ()) -> str:
    """The supported names closest to one that is not, and where all are listed."""
    known = [*added, *(model for model in open_clip.list_models() if not model.startswith(WITHOUT_A_TRANSFORMER))]
    close = difflib.get_close_matches(name, [model for model in known if model != name], n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return f"{hint}docs/encoders.md lists what is supported"
