"""What the student of a distillation learns: one loss, one module.

* :class:`ContentLoss`: what regions mean (Eq. 7)
* :class:`ContextLoss`: which tokens belong together (Eq. 8-9), by :func:`correlation_distance` in blocks of rows
* :class:`DistillationLoss`: what each says of itself; :class:`StudentFeature`: what it may read

Source: DeCLIP (CVPR 2025), Sec. 3.2.
"""

from declip.losses.base import DistillationLoss, StudentFeature
from declip.losses.content import ContentLoss
from declip.losses.context import ContextLoss
from declip.losses.correlation import correlation_distance

__all__ = ["ContentLoss", "ContextLoss", "DistillationLoss", "StudentFeature", "correlation_distance"]
