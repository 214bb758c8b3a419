"""Tower adapters: one small class per anatomy says how to embed patches, run blocks and reach the last block."""

from declip.models.towers.base import ImageTower, Tokens
from declip.models.towers.openclip import OpenCLIPTower
from declip.models.towers.select import select_tower
from declip.models.towers.text import TextTower
from declip.models.towers.timm import EvaPostNormTower, EvaTower, VitTower

__all__ = [
    "EvaPostNormTower",
    "EvaTower",
    "ImageTower",
    "OpenCLIPTower",
    "TextTower",
    "Tokens",
    "VitTower",
    "select_tower",
]
