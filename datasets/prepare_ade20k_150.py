#!/usr/bin/env python3
"""Prepare ADE20K with 150 classes: unpack its archive. Labels need no conversion.

Source   ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu)
Expects  ADEChallengeData2016.zip in the data root, or its content already unpacked there
Writes   ADEChallengeData2016/{images,annotations}/{training,validation}; files that are there in full are kept
Licence  annotations BSD 3-Clause; images for non-commercial research
"""

from declip.data.preparation.ade20k import prepare_ade20k_150
from declip.data.preparation.command import prepare_command

if __name__ == "__main__":
    prepare_command(__doc__, prepare_ade20k_150)
