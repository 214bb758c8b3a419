#!/usr/bin/env python3
"""Prepare PASCAL VOC 2012 with 20 classes, and with background as the 21st.

Source   VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)
Expects  VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets} under the data root
Writes   VOCdevkit/VOC2012/annotations_detectron2/val/*.png: 0 to 19 objects, 255 background and borders
         VOCdevkit/VOC2012/annotations_detectron2_bg/val/*.png: 0 to 19 objects, 20 background, 255 borders
Licence  images under the terms of Flickr, for research
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.pascal import prepare_voc

if __name__ == "__main__":
    prepare_command(__doc__, prepare_voc)
