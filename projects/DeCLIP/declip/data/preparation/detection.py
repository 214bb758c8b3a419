"""OV-COCO, OV-LVIS, and the sets that detectors are transferred to, from the public annotation files.

Nothing is drawn or cropped: a set is a file of records (:mod:`declip.data.detection.record_file`) beside the public
files, with the annotations of its classes alone. A training set has those of base classes, and no others.
"""

import logging
import os
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.class_lists import load_class_list
from declip.data.detection.benchmarks import DETECTION_DATASETS
from declip.data.detection.coco_json import read_coco
from declip.data.detection.record_file import RecordFile, write_records
from declip.data.preparation.conversion import writing


def prepare_ov_coco(root: Path, workers: int) -> dict[str, int]:
    """``coco/annotations/{ov_coco_val,coco_80_val,ov_coco_train}.records``."""
    return prepare_detection(root, "ov_coco_val", "coco_80_val", "ov_coco_train")


def prepare_ov_lvis(root: Path, workers: int) -> dict[str, int]:
    """``lvis/ov_lvis_{val,train}.records``."""
    return prepare_detection(root, "ov_lvis_val", "ov_lvis_train")


def prepare_objects365(root: Path, workers: int) -> dict[str, int]:
    """``objects365/objects365_v1_val.records``."""
    return prepare_detection(root, "objects365_v1_val")


def prepare_detection(root: Path, *names: str) -> dict[str, int]:
    """Make the records of some datasets that are not there yet; returns how many files were made, by file.

    Args:
        root: of the data.
        names: of :data:`declip.data.detection.benchmarks.DETECTION_DATASETS`.

    Raises:
        DataError: an annotation file is missing, is none, or is of other categories.
    """
    made = {}
    for name in names:
        dataset = DETECTION_DATASETS[name]
        source, target, classes = root / dataset.source, root / dataset.records, load_class_list(dataset.classes)
        made[dataset.records] = 0
        if os.path.isfile(target):
            RecordFile(target, root, "remove it and run again")
            continue
        if not os.path.isfile(source):
            raise DataError(f"{source.absolute()} does not exist: {dataset.prepare}")
        # others than the benchmark's are not known of Objects365, whose files differ in their order
        ids = None if dataset.classes.startswith("objects365") else dataset.category_ids()
        novel = set(dataset.class_groups()[dataset.novel]) if dataset.training else set()
        found = read_coco(source, classes, ids, without=novel, remedy=dataset.prepare)
        with writing(target) as temporary:
            write_records(temporary, classes, found.records(dataset.images, dataset.keep_empty))
        made[dataset.records] = 1
        if found.flat:
            logging.getLogger(__name__).warning(
                "%s: %d annotations whose boxes have no area are left out, the first has id %s",
                *(source, len(found.flat), found.flat[0]),
            )
    return made
