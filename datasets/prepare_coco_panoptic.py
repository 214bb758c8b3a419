#!/usr/bin/env python3
"""Prepare COCO panoptic as a set of labelled regions, for region classification (TEST.REGIONS of distillation).

Source   val2017.zip and panoptic_annotations_trainval2017.zip of COCO (https://cocodataset.org)
Expects  coco/val2017/*.jpg, coco/annotations/panoptic_val2017.json and coco/annotations/panoptic_val2017/*.png
Writes   coco/annotations/regions_val2017.json: COCO's format, without crowds and regions below 8x8 or above 1024x1024
         pixels, every segment verified against its label image
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.panoptic import prepare_coco_panoptic

if __name__ == "__main__":
    prepare_command(__doc__, prepare_coco_panoptic)
