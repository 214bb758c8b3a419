"""Tower adapters: one small class per family says how to embed patches, run blocks and reach the last block."""

from declip.towers.base import ImageTower
from declip.towers.eva import EvaTower
from declip.towers.openclip import OpenCLIPTower
from declip.towers.select import select_tower
from declip.towers.siglip import SigLIPTower
from declip.towers.text import TextTower

__all__ = ["EvaTower", "ImageTower", "OpenCLIPTower", "SigLIPTower", "TextTower", "select_tower"]
