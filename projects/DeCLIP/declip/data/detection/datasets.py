"""Detection datasets by registered name: their classes, and their dataset dicts, checked before the first is used."""

import os
from collections.abc import Mapping, Sequence

from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.errors import DataError
from declip.data.class_lists import check_class_names
from declip.data.datasets import register_datasets
from declip.data.detection.annotations import fault_in_record
from declip.data.detection.record_file import RecordFile

Records = Sequence[dict]
"""Dataset dicts as Detectron2 has them: ``file_name``, ``height``, ``width``, ``image_id``, ``annotations`` with
``bbox``, ``bbox_mode``, ``category_id`` (a label), and where known ``segmentation``, ``iscrowd``, ``area``; those of
LVIS also ``neg_category_ids`` and ``not_exhaustive_category_ids`` (ids of the annotation file)."""


def detection_classes(name: str) -> list[str]:
    """The classes of a registered detection dataset, in label order.

    Raises:
        DataError: the dataset is not registered, or names no classes.
    """
    register_datasets()
    if name not in DatasetCatalog.list():
        known = [each for each in DatasetCatalog.list() if MetadataCatalog.get(each).get("thing_classes")]
        raise DataError(
            f"dataset '{name}' is not registered: choose among {', '.join(sorted(known))}, or register your own with "
            "d2host.DatasetCatalog"
        )
    names = MetadataCatalog.get(name).get("thing_classes")
    if not names:
        raise DataError(
            f"dataset '{name}' has no list of 'thing_classes' in its metadata: name a detection dataset, or set them "
            "when registering it"
        )
    return check_class_names(names, f"'thing_classes' of dataset '{name}'")


def detection_metadata(name: str):
    """What the catalog tells of a registered detection dataset: ``thing_classes``; ``class_groups``, a part of the
    classes by name, such as ``novel`` and ``base``; ``novel_classes``, labels that nobody may train on.

    Raises:
        DataError: the dataset is not registered, or names no classes.
    """
    detection_classes(name)
    return MetadataCatalog.get(name)


def detection_records(name: str, training: bool = False) -> Records:
    """The dataset dicts of a registered detection dataset; of a file of records, all but its index is read later.

    Args:
        name: as registered.
        training: leave out images without objects, and refuse objects of novel classes.

    Raises:
        DataError: the dataset is not registered, incomplete or empty, of other classes than it says, has an impossible
            object, or names a missing file; or it is to train on, and has objects of novel classes.
    """
    classes = detection_classes(name)
    forbidden = set(MetadataCatalog.get(name).get("novel_classes") or ()) if training else set()
    records = DatasetCatalog.get(name)
    if isinstance(records, str | Mapping) or not isinstance(records, Sequence):
        raise DataError(f"dataset '{name}' gives a {type(records).__name__}: register a function that gives a list")
    if isinstance(records, RecordFile):
        fault = _fault_in_index(records, classes, forbidden)
    else:
        faults = ((position, fault_in_record(record, classes, forbidden)) for position, record in enumerate(records))
        fault = next((f"dict {position}: {fault}" for position, fault in faults if fault), "")
    if fault:
        raise DataError(f"dataset '{name}', {fault}: prepare it again, or correct its annotations")
    if training:
        records = with_objects(records)
    if not len(records):
        what = "no image with an object to train on" if training else "no images"
        raise DataError(f"dataset '{name}' has {what}: check its annotations")
    missing = [file for file in file_names(records) if not os.path.isfile(file)]
    if missing:
        raise DataError(
            f"dataset '{name}': {len(missing)} of {len(records)} images do not exist, among them {missing[0]}: get "
            "them, or set DETECTRON2_DATASETS to the folder that holds them"
        )
    return records


def _fault_in_index(records: RecordFile, classes: Sequence[str], forbidden: set[int]) -> str:
    if records.classes != list(classes):
        return f"{records.path} is of {len(records.classes)} other classes than the dataset's {len(classes)}"
    leaked = [label for label in forbidden if records.objects_per_class[label]]
    if leaked:
        names = ", ".join(f"'{classes[label]}'" for label in sorted(leaked)[:3])
        return f"{records.path} has objects of {len(leaked)} novel classes, which nobody may train on, such as {names}"
    return ""


def with_objects(records: Records) -> Records:
    """The images that hold an object that is no crowd."""
    if isinstance(records, RecordFile):
        return records.subset(records.num_objects.nonzero()[0])
    return [each for each in records if any(not annotation.get("iscrowd") for annotation in each["annotations"])]


def file_names(records: Records) -> list[str]:
    """The paths of the images; of a file of records, nothing but its index is asked."""
    if isinstance(records, RecordFile):
        return [str(records.root / name) for name in records.file_names]
    return [str(record["file_name"]) for record in records]


def image_ids(records: Records) -> list[int | str]:
    """The ids of the images, which have to differ; of a file of records, nothing but its index is asked."""
    return records.image_ids if isinstance(records, RecordFile) else [record["image_id"] for record in records]
