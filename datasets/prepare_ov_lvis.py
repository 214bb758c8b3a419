#!/usr/bin/env python3
"""Prepare OV-LVIS: 866 common and frequent classes to train on, 337 rare ones besides to evaluate.

Source   train2017.zip, val2017.zip of COCO (https://cocodataset.org), and lvis_v1_train.json, lvis_v1_val.json of LVIS
         (https://www.lvisdataset.org)
Expects  lvis/lvis_v1_{train,val}.json and coco/{train,val}2017/*.jpg under the data root
Writes   lvis/ov_lvis_train.records: 100,170 images, objects of common and frequent classes alone;
         lvis/ov_lvis_val.records: 19,809 images, objects of all 1,203 classes
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.detection import prepare_ov_lvis

if __name__ == "__main__":
    prepare_command(__doc__, prepare_ov_lvis)
