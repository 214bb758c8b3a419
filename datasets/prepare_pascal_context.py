#!/usr/bin/env python3
"""Prepare PASCAL-Context with 459, 60 and 59 classes.

Source   VOCtrainval_03-May-2010.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2010) and trainval.tar.gz with
         labels.txt of PASCAL-Context (https://cs.stanford.edu/~roozbeh/pascal-context)
Expects  VOCdevkit/VOC2010/JPEGImages/*.jpg, trainval/*.mat, labels.txt, and the stems of the validation images in
         pascalcontext_val.txt, under the data root
Writes   VOCdevkit/VOC2010/annotations_detectron2/pc459_val/*.tif: 16-bit, 0 to 458, 65535 none
         .../pc60_val/*.png: 0 background, 1 to 59;  .../pc59_val/*.png: 0 to 58, 255 background
         All three come from the same .mat files.
Licence  images under the terms of Flickr, for research
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.pascal import prepare_context

if __name__ == "__main__":
    prepare_command(__doc__, prepare_context)
