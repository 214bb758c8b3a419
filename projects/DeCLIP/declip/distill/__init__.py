"""Distillation: a CLIP becomes a DeCLIP by looking at images.

* :mod:`views`, :mod:`dataset`: what student and teachers see of images (:mod:`declip.data.image_sources`)
* :mod:`teachers`: vision foundation models
* :mod:`losses` on :mod:`correlation`: what the student learns from each teacher
* :class:`Distillation` (:mod:`task`): one step; :mod:`student`: what of it trains
* :class:`DistillationTrainer`: the run, validated by region classification (:mod:`declip.evaluation.regions`)
* :func:`get_distillation_cfg`, :func:`build_distillation`: from a config file
"""

from declip.distill.build import build_distillation
from declip.distill.config import get_distillation_cfg
from declip.distill.task import Distillation, DistillationForm, LossWeights
from declip.distill.trainer import DistillationTrainer
from declip.losses.terms import content_loss, context_loss

__all__ = [
    "Distillation",
    "DistillationForm",
    "DistillationTrainer",
    "LossWeights",
    "build_distillation",
    "content_loss",
    "context_loss",
    "get_distillation_cfg",
]
