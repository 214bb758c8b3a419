"""Evaluation of detectors: average precision of boxes and masks, over all classes and over parts of them.

* :class:`DetectionEvaluator`: Detectron2's protocol, any number of images and processes
* :mod:`average_precision`: the numbers of COCO and LVIS, a class at a time
* :mod:`columns`: objects and detections in little memory
* :mod:`results_file`: detections in COCO's results format
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"evaluator": ["DetectionEvaluator"]})
