"""What the student of a distillation learns: one loss, one module.

* :class:`ContentLoss`: what regions mean (Eq. 7)
* :class:`ContextLoss`: which tokens belong together (Eq. 8-9), by :func:`correlation_distance` in blocks of rows
* :class:`RegionCorrelationLoss`: which regions belong together
* :func:`l2_distance`, :class:`KLDistance`: between rows
* :class:`DistillationLoss`: what each says of itself; :class:`StudentFeature`: what it may read; :class:`TermLoss`:
  what it gives

Source: DeCLIP (CVPR 2025), Sec. 3.2; generalized DeCLIP (arXiv 2508.11256) for divergences and regions.
"""

from declip.losses.base import DistillationLoss, StudentFeature, TermLoss
from declip.losses.content import ContentLoss
from declip.losses.context import ContextLoss
from declip.losses.correlation import correlation_distance
from declip.losses.distances import Direction, KLDistance, l2_distance
from declip.losses.region_correlation import RegionCorrelationLoss

__all__ = [
    "ContentLoss",
    "ContextLoss",
    "Direction",
    "DistillationLoss",
    "KLDistance",
    "RegionCorrelationLoss",
    "StudentFeature",
    "TermLoss",
    "correlation_distance",
    "l2_distance",
]
