"""Data: benchmarks and datasets by name, class lists, one image reader, image sources, region sets, preparation.

* :mod:`benchmarks`, :mod:`datasets`: datasets of the papers, of plug-ins and of one's own, by registered name
* :mod:`class_lists`, :mod:`palette`: names and colours of classes
* :mod:`reading`, :mod:`mapper`, :mod:`loader`: files to tensors
* :mod:`image_sources`, :mod:`region_sets`: images to distil from, labelled regions to evaluate on
* :mod:`detection`: datasets of objects with boxes and masks
* :mod:`preparation`: from what is downloaded to what is read
"""
