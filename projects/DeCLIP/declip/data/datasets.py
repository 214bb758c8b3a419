"""Datasets by name, under ``$DETECTRON2_DATASETS`` (default ``./datasets``).

Datasets are registered when a name is first looked up; registering reads nothing but class lists.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS, FolderDataset
from declip.data.class_lists import load_class_list
from declip.data.palette import class_palette
from declip.data.root import dataset_root
from declip.plugins import PluginDataset, from_plugins


def load_folder_dataset(name: str, dataset: FolderDataset) -> list[dict]:
    """Dataset dicts of a folder dataset, sorted by file name.

    Raises:
        DataError: a folder is missing or empty, or an image or label lacks its counterpart.
    """
    images, labels = dataset_root() / dataset.images, dataset_root() / dataset.labels
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(
                f"dataset '{name}' needs {folder.absolute()}, which does not exist: {dataset.prepare}, or set "
                "DETECTRON2_DATASETS to the folder that holds it"
            )
    image_files = {file.stem: file for file in sorted(images.rglob(f"*{dataset.image_suffix}"))}
    label_files = {file.stem: file for file in sorted(labels.rglob(f"*{dataset.label_suffix}"))}
    wanted = label_files if dataset.labelled_only else image_files
    if not wanted:
        folder, suffix = (labels, dataset.label_suffix) if dataset.labelled_only else (images, dataset.image_suffix)
        raise DataError(f"dataset '{name}' found no {suffix} file in {folder.absolute()}: {dataset.prepare}")
    _check_pairs(name, wanted, image_files, "image", images, dataset.prepare)
    _check_pairs(name, wanted, label_files, "label", labels, dataset.prepare)
    return [_describe(image_files[stem], label_files[stem]) for stem in sorted(wanted)]


def _check_pairs(name: str, wanted: dict, present: dict, kind: str, folder: Path, prepare: str) -> None:
    missing = [stem for stem in wanted if stem not in present]
    if missing:
        raise DataError(
            f"dataset '{name}' lacks {len(missing)} {kind} files in {folder.absolute()}, among them that of "
            f"{missing[0]}: {prepare}"
        )


def _describe(image: Path, label: Path) -> dict:
    try:
        with Image.open(label) as header:  # reads the header only; images of a dataset are as large as their labels
            width, height = header.size
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"label file {label} is not a readable image: prepare the labels again") from error
    return {
        "file_name": str(image),
        "sem_seg_file_name": str(label),
        "image_id": image.stem,
        "height": height,
        "width": width,
    }


def _load_added(dataset: PluginDataset) -> Sequence[dict]:
    return dataset.load(dataset_root())


def class_names(name: str) -> Sequence[str]:
    """The classes of a registered dataset, in label order.

    Raises:
        DataError: the dataset is not registered or names no classes.
    """
    register_datasets()
    if name not in DatasetCatalog.list():
        raise DataError(
            f"dataset '{name}' is not registered: choose among "
            f"{', '.join((*sorted(FOLDER_DATASETS), *from_plugins('datasets')))}, or register your own with "
            "d2host.DatasetCatalog"
        )
    names = MetadataCatalog.get(name).get("stuff_classes")
    if not names:
        raise DataError(f"dataset '{name}' has no 'stuff_classes' in its metadata: set them when registering it")
    return names


def vocabulary(name: str) -> Sequence[str]:
    """The classes that predictions on a registered dataset choose from: its own, or a longer list of names.

    Raises:
        DataError: the dataset is not registered or names no classes.
    """
    return dataset_metadata(name).get("vocabulary") or class_names(name)


def dataset_records(name: str) -> list[dict]:
    """The dataset dicts of a registered dataset.

    Raises:
        DataError: the dataset is not registered, or incomplete.
    """
    class_names(name)
    return DatasetCatalog.get(name)


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
    for name, added in from_plugins("datasets").items():
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_load_added, added))
            MetadataCatalog.get(name).set(**added.metadata())
