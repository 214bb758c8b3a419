"""Diffusion models as teachers: which parts of an image their self-attention takes for one object.

* :class:`DiffusionAttention` (:mod:`model`): an image in, one fused self-attention map out
* :mod:`attention`: maps of wanted layers, on the student's grid, and how they are fused
* :func:`load_diffusion` (:mod:`loading`): from a folder of `diffusers`, a hub name, or a plug-in's name

Source: generalized DeCLIP (arXiv 2508.11256), SD-GSC; the recipe of the maps is CLIPer's (ICCV 2025).
"""

from declip.teachers.diffusion.attention import Fusion
from declip.teachers.diffusion.loading import load_diffusion
from declip.teachers.diffusion.model import DiffusionAttention, DiffusionOptions

__all__ = ["DiffusionAttention", "DiffusionOptions", "Fusion", "load_diffusion"]
