"""CAT-Seg's model.

* :class:`CATSeg`: the meta-architecture, encoder and head
* :class:`CATSegHead`, :class:`Aggregator`: cost aggregation
* :class:`SlidingWindow`, :class:`WholeImage`: how test images are seen
* :func:`binary_cross_entropy`: the loss
"""

from catseg.modeling.aggregator import Aggregator
from catseg.modeling.head import CATSegHead
from catseg.modeling.inference import SlidingWindow, WholeImage
from catseg.modeling.loss import binary_cross_entropy
from catseg.modeling.meta_arch import CATSeg

__all__ = [
    "Aggregator",
    "CATSeg",
    "CATSegHead",
    "SlidingWindow",
    "WholeImage",
    "binary_cross_entropy",
]
