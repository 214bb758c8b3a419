#!/usr/bin/env python3
"""Prepare Cityscapes with its 19 evaluation classes.

Source   leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (https://www.cityscapes-dataset.com, registration)
Expects  cityscapes/leftImg8bit/val and cityscapes/gtFine/val under the data root
Writes   cityscapes/annotations_detectron2/val/*_leftImg8bit.png: 0 to 18, 255 not evaluated
Licence  non-commercial, see the site
"""

from declip.data.preparation.cityscapes import prepare_cityscapes
from declip.data.preparation.command import prepare_command

if __name__ == "__main__":
    prepare_command(__doc__, prepare_cityscapes)
