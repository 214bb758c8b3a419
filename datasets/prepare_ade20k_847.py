#!/usr/bin/env python3
"""Prepare the full ADE20K with the 847 classes of open-vocabulary segmentation.

Source   ADE20K_2021_17_01 (https://groups.csail.mit.edu/vision/datasets/ADE20K, on request)
Expects  ADE20K_2021_17_01/index_ade20k.pkl and images/ADE/validation/**/*_seg.png with their .jpg under the data root
Writes   ADE20K_2021_17_01/images_detectron2/validation/*.jpg, shrunk to a shorter side of 512
         ADE20K_2021_17_01/annotations_detectron2/validation/*.tif: 16-bit, 0 to 846, 65535 other classes
Licence  annotations BSD 3-Clause; images for non-commercial research
"""

from declip.data.preparation.ade20k import prepare_ade20k_847
from declip.data.preparation.command import prepare_command

if __name__ == "__main__":
    prepare_command(__doc__, prepare_ade20k_847)
