"""Region classification: does the feature of a region match the name of its class?

* :class:`RegionSet`, :func:`load_region_set`: images with labelled regions
* :mod:`pooling`: one feature per region, from boxes, from masks, or from crops
* :func:`classify_regions`, :class:`RegionMethod`: top-1 and top-5 accuracy, things and stuff apart;
  :func:`compare_regions`: by several kinds of features in one pass
* :func:`evaluate_regions`: at several resolutions, with tables, a plot and predictions (:mod:`report`)

Source: DeCLIP (CVPR 2025), Fig. 6; the protocol is CLIPSelf's (ICLR 2024).
"""

from declip.data.region_sets import RegionImage, RegionSet, load_region_set
from declip.evaluation.regions.accuracy import RegionAccuracy
from declip.evaluation.regions.classify import RegionMethod, classify_regions, compare_regions
from declip.evaluation.regions.run import RegionOptions, evaluate_regions

__all__ = [
    "RegionAccuracy",
    "RegionImage",
    "RegionMethod",
    "RegionOptions",
    "RegionSet",
    "classify_regions",
    "compare_regions",
    "evaluate_regions",
    "load_region_set",
]
