"""Distillation: a CLIP becomes a DeCLIP by looking at images.

* :mod:`views`, :mod:`dataset`: what student and teachers see of images (:mod:`declip.data.image_sources`)
* :class:`Distillation` (:mod:`step`): one step, the weighted sum of terms (:mod:`declip.losses`) on what teachers
  (:mod:`declip.teachers`) say; :mod:`student`: what of the student trains
* :class:`DistillationTrainer` (:mod:`trainer`): the run, validated by region classification
* :func:`get_distillation_cfg` (:mod:`config`), :func:`build_distillation`, :func:`build_regions` (:mod:`build`): from a
  config file
"""

from declip.distill.build import build_distillation, build_regions, check_inputs
from declip.distill.config import get_distillation_cfg
from declip.distill.step import Distillation
from declip.distill.trainer import DistillationTrainer

__all__ = [
    "Distillation",
    "DistillationTrainer",
    "build_distillation",
    "build_regions",
    "check_inputs",
    "get_distillation_cfg",
]
