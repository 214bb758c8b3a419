"""Datasets by name, under ``$DETECTRON2_DATASETS`` (default ``./datasets``).

Datasets are registered when a name is first looked up; registering reads nothing but class lists.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.errors import ConfigError, DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.class_lists import check_class_names, load_class_list
from declip.data.detection.benchmarks import DETECTION_DATASETS, DetectionDataset
from declip.data.detection.record_file import RecordFile
from declip.data.folder_dataset import load_folder_dataset
from declip.data.palette import class_palette
from declip.data.reading import LabelFormat
from declip.data.records import PATH, SIDE, fault_in
from declip.data.root import dataset_root
from declip.plugins import PluginDataset, from_plugins

RECORD = {"file_name": PATH, "sem_seg_file_name": PATH, "height": SIDE.optional(), "width": SIDE.optional()}


def _load_added(dataset: PluginDataset) -> Sequence[dict]:
    return dataset.load(dataset_root())


def _load_detection(dataset: DetectionDataset) -> Sequence[dict]:
    return RecordFile(dataset_root() / dataset.records, dataset_root(), dataset.prepare)


def _detection_facts(dataset: DetectionDataset) -> dict[str, Any]:
    classes, groups = load_class_list(dataset.classes), dataset.class_groups()
    return {
        "thing_classes": classes,
        "thing_colors": class_palette(len(classes)),
        "thing_dataset_id_to_contiguous_id": {number: label for label, number in enumerate(dataset.category_ids())},
        "class_groups": groups,
        "novel_classes": groups.get(dataset.novel, []),
        "evaluator_type": "lvis" if dataset.federated else "coco",
    }


def class_names(name: str) -> Sequence[str]:
    """The classes of a registered dataset, in label order.

    Raises:
        DataError: the dataset is not registered, names no classes, or ignores one of them.
    """
    register_datasets()
    if name not in DatasetCatalog.list():
        raise DataError(
            f"dataset '{name}' is not registered: choose among "
            f"{', '.join((*sorted(FOLDER_DATASETS), *from_plugins('datasets')))}, or register your own with "
            "d2host.DatasetCatalog"
        )
    metadata = MetadataCatalog.get(name)
    names = metadata.get("stuff_classes")
    if not names or isinstance(names, str):
        raise DataError(
            f"dataset '{name}' has no list of 'stuff_classes' in its metadata: set it when registering the dataset"
        )
    check_class_names(names, f"'stuff_classes' of dataset '{name}'")
    try:
        LabelFormat.of(metadata)
    except DataError as error:
        raise DataError(f"dataset '{name}': {error}") from error
    return names


def vocabulary(name: str) -> Sequence[str]:
    """The classes that predictions on a registered dataset choose from: its own, or a longer list of names.

    Raises:
        DataError: the dataset is not registered or names no classes.
    """
    return dataset_metadata(name).get("vocabulary") or class_names(name)


def dataset_records(name: str) -> list[dict]:
    """The dataset dicts of a registered dataset, checked before the first is used.

    Raises:
        DataError: the dataset is not registered, incomplete or empty, or a dict lacks a key or names a missing file.
    """
    class_names(name)
    records = DatasetCatalog.get(name)
    if isinstance(records, str | Mapping) or not isinstance(records, Sequence):
        raise DataError(f"dataset '{name}' gives a {type(records).__name__}: register a function that gives a list")
    if not records:
        raise DataError(f"dataset '{name}' has no images: its function gives an empty list")
    for position, record in enumerate(records):
        if fault := fault_in(record, RECORD):
            raise DataError(f"dataset '{name}', dict {position}: {fault}: see Detectron2's standard dataset dicts")
    for key in ("file_name", "sem_seg_file_name"):
        missing = [record[key] for record in records if not os.path.isfile(record[key])]
        if missing:
            raise DataError(
                f"dataset '{name}': {len(missing)} of {len(records)} files of '{key}' do not exist, among them "
                f"{missing[0]}: get them, or register it with the paths where they are"
            )
    return records


def dataset_metadata(name: str):
    """What the catalog tells of a registered dataset.

    Raises:
        DataError: the dataset is not registered or names no classes.
    """
    class_names(name)
    return MetadataCatalog.get(name)


@cache
def register_datasets() -> None:
    """Register every dataset of the project and of plug-ins that is not registered yet; once per process."""
    for name, dataset in FOLDER_DATASETS.items():
        if name in DatasetCatalog.list():
            continue
        classes = load_class_list(dataset.classes)
        DatasetCatalog.register(name, partial(load_folder_dataset, name, dataset))
        MetadataCatalog.get(name).set(
            stuff_classes=classes,
            stuff_colors=class_palette(len(classes)),
            ignore_label=dataset.ignore_label,
            reduce_zero_label=dataset.reduce_zero_label,
            evaluator_type="sem_seg_background" if dataset.vocabulary else "sem_seg",
            vocabulary=load_class_list(dataset.vocabulary) if dataset.vocabulary else classes,
            is_thing=[index in dataset.things for index in range(len(classes))] if dataset.things else None,
        )
    for name, prepared in DETECTION_DATASETS.items():
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_load_detection, prepared))
            MetadataCatalog.get(name).set(**_detection_facts(prepared))
    for name, added in from_plugins("datasets").items():
        if name in FOLDER_DATASETS or name in DETECTION_DATASETS:
            raise ConfigError(f"a plug-in adds a dataset '{name}', which is the name of a benchmark: uninstall it")
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_load_added, added))
            MetadataCatalog.get(name).set(**added.metadata())
