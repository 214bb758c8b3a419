"""Tower adapters: one small class per family says how to embed patches, run blocks and reach the last block."""

from declip.models.towers.base import ImageTower, Tokens, resample_positions
from declip.models.towers.eva import EvaTower
from declip.models.towers.openclip import OpenCLIPTower
from declip.models.towers.select import select_tower
from declip.models.towers.siglip import SigLIPTower
from declip.models.towers.text import TextTower

__all__ = [
    "EvaTower",
    "ImageTower",
    "OpenCLIPTower",
    "SigLIPTower",
    "TextTower",
    "Tokens",
    "resample_positions",
    "select_tower",
]
