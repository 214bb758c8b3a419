#!/usr/bin/env python3
"""Prepare OV-COCO (48 base classes to train on, 17 novel ones besides to evaluate), and COCO's 80 classes to evaluate.

Source   train2017.zip, val2017.zip and annotations_trainval2017.zip of COCO (https://cocodataset.org)
Expects  coco/annotations/instances_{train,val}2017.json and coco/{train,val}2017/*.jpg under the data root
Writes   coco/annotations/ov_coco_train.records: 107,761 images, objects of base classes alone;
         coco/annotations/ov_coco_val.records: 4,836 images, objects of all 65 classes;
         coco/annotations/coco_80_val.records: 5,000 images, to transfer to
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.detection import prepare_ov_coco

if __name__ == "__main__":
    prepare_command(__doc__, prepare_ov_coco)
