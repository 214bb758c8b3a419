"""Detection datasets: objects with boxes and masks.

* :mod:`benchmarks`: OV-COCO, OV-LVIS, and those that detectors are transferred to
* :mod:`datasets`: dataset dicts by registered name, checked
* :mod:`record_file`: dataset dicts in a file, of which only those asked for are read
* :mod:`annotations`, :mod:`coco_json`: what an object's annotation may be; COCO's and LVIS's files, an object at a time
* :mod:`augmentation`, :mod:`mapper`, :mod:`loader`: large-scale jitter, and from dataset dicts to batches
* :mod:`proposals`: boxes of regions that may be objects, to distil from
"""
