#!/usr/bin/env python3
"""Prepare the validation set of Objects365 v1, 365 classes, to transfer detectors to.

Source   Objects365 of 2019, "v1" (https://www.objects365.org)
Expects  objects365/annotations/objects365_val.json and objects365/val/*.jpg under the data root
Writes   objects365/objects365_v1_val.records
Licence  annotations CC BY 4.0; images under the terms of Flickr
"""

from declip.data.preparation.command import prepare_command
from declip.data.preparation.detection import prepare_objects365

if __name__ == "__main__":
    prepare_command(__doc__, prepare_objects365)
