#!/usr/bin/env python3
"""Prepare COCO-Object: background and the 80 object classes of COCO.

Source   val2017.zip of COCO (https://cocodataset.org) and stuffthingmaps_trainval2017.zip of COCO-Stuff
         (https://github.com/nightrome/cocostuff)
Expects  coco/val2017/*.jpg and coco/stuffthingmaps/val2017/*.png under the data root
Writes   coco/annotations_object/val2017/*.png: 0 background (stuff and unlabelled pixels), 1 to 80 objects
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.coco import prepare_coco_object
from declip.data.preparation.command import prepare_command

if __name__ == "__main__":
    prepare_command(__doc__, prepare_coco_object)
