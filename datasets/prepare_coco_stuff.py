#!/usr/bin/env python3
"""Prepare COCO-Stuff 164k with 171 classes, to train on and to evaluate.

Source   train2017.zip, val2017.zip of COCO (https://cocodataset.org) and stuffthingmaps_trainval2017.zip of COCO-Stuff
         (https://github.com/nightrome/cocostuff)
Expects  coco/{train,val}2017/*.jpg and coco/stuffthingmaps/{train,val}2017/*.png under the data root
Writes   coco/stuffthingmaps_detectron2/{train,val}2017/*.png: labels 0 to 170, 255 unlabelled
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.coco import prepare_coco_stuff
from declip.data.preparation.command import prepare_command

if __name__ == "__main__":
    prepare_command(__doc__, prepare_coco_stuff)
