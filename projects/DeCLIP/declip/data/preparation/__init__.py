"""Preparing the benchmarks' label files; the command lines are in ``datasets/``.

* :mod:`coco`: COCO-Stuff and COCO-Object
* :mod:`ade20k`: ADE20K-150 and ADE20K-847
* :mod:`pascal`: VOC-20, VOC-21 and PASCAL-Context-459, -60, -59
* :mod:`cityscapes`: Cityscapes-19
* :mod:`panoptic`: region sets of COCO panoptic
* :mod:`detection`: OV-COCO, OV-LVIS, COCO and Objects365 as files of detection records
* :mod:`check`, :mod:`check_detection`: is what was prepared complete?
* :mod:`command`: what the command lines share
"""
