"""Datasets by name, under ``$DETECTRON2_DATASETS`` (default ``./datasets``).

Registering reads nothing but class lists; files are looked for when a dataset is loaded.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from catseg.data.class_lists import load_class_list
from catseg.data.palette import class_palette
from d2host import DatasetCatalog, MetadataCatalog
from declip.errors import DataError
from declip.nano.datasets import SPLITS, NanoSplit, load_nano
from declip.nano.vocabulary import UNSEEN_CLASSES
from declip.nano.world import class_color


@dataclass(frozen=True)
class FolderDataset:
    """A dataset of image files and label files of the same name.

    Attributes:
        images, labels: folders under the root.
        classes: name of the class list.
        prepare: what to do where the files are missing.
        reduce_zero_label: see :func:`catseg.data.reading.read_sem_seg`.
        ignore_label: in the label files (after the reduction).
    """

    images: str
    labels: str
    classes: str
    prepare: str
    reduce_zero_label: bool = False
    ignore_label: int = 255


ADE_SOURCE = "download ADEChallengeData2016.zip of the MIT scene parsing benchmark and unpack it there"
COCO_SOURCE = (
    "unpack COCO 2017 images and the COCO-Stuff 164k label maps, prepared to 171 contiguous classes, there "
    "(docs/datasets.md)"
)
FOLDER_DATASETS = {
    "ade20k_150_test_sem_seg": FolderDataset(
        "ADEChallengeData2016/images/validation",
        "ADEChallengeData2016/annotations/validation",
        "ade20k_150",
        ADE_SOURCE,
        reduce_zero_label=True,
    ),
    "ade20k_150_train_sem_seg": FolderDataset(
        "ADEChallengeData2016/images/training",
        "ADEChallengeData2016/annotations/training",
        "ade20k_150",
        ADE_SOURCE,
        reduce_zero_label=True,
    ),
    "coco_2017_train_stuff_all_sem_seg": FolderDataset(
        "coco/train2017", "coco/stuffthingmaps_detectron2/train2017", "coco_stuff_171", COCO_SOURCE
    ),
    "coco_2017_test_stuff_all_sem_seg": FolderDataset(
        "coco/val2017", "coco/stuffthingmaps_detectron2/val2017", "coco_stuff_171", COCO_SOURCE
    ),
}


def dataset_root() -> Path:
    """The folder that holds all datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def load_folder_dataset(name: str, dataset: FolderDataset) -> list[dict]:
    """Dataset dicts of a folder dataset, sorted by file name.

    Raises:
        DataError: a folder is missing or empty, or an image has no label.
    """
    images, labels = dataset_root() / dataset.images, dataset_root() / dataset.labels
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(
                f"dataset '{name}' needs {folder.absolute()}, which does not exist: {dataset.prepare}, or set "
                "DETECTRON2_DATASETS to the folder that holds it"
            )
    files = sorted(images.glob("*.jpg"))
    if not files:
        raise DataError(f"dataset '{name}' found no .jpg image in {images.absolute()}: {dataset.prepare}")
    missing = [file.name for file in files if not (labels / f"{file.stem}.png").is_file()]
    if missing:
        raise DataError(
            f"dataset '{name}' has {len(missing)} images without a label in {labels.absolute()}, among them "
            f"{missing[0]}: prepare the labels again"
        )
    return [_describe(file, labels / f"{file.stem}.png") for file in files]


def _describe(image: Path, label: Path) -> dict:
    with Image.open(label) as header:  # reads the header only; images of a dataset are as large as their labels
        width, height = header.size
    return {
        "file_name": str(image),
        "sem_seg_file_name": str(label),
        "image_id": image.stem,
        "height": height,
        "width": width,
    }


def _load_nano(split: NanoSplit) -> list[dict]:
    return load_nano(split, dataset_root())


def class_names(name: str) -> Sequence[str]:
    """The classes of a registered dataset, in label order.

    Raises:
        DataError: the dataset is not registered or names no classes.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"dataset '{name}' is not registered: choose among {', '.join(sorted(FOLDER_DATASETS))}, "
            f"{', '.join(SPLITS)}, or register your own with d2host.DatasetCatalog"
        )
    names = MetadataCatalog.get(name).get("stuff_classes")
    if not names:
        raise DataError(f"dataset '{name}' has no 'stuff_classes' in its metadata: set them when registering it")
    return names


def register_all() -> None:
    """Register every dataset of the project that is not registered yet."""
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
            evaluator_type="sem_seg",
        )
    for name, split in SPLITS.items():
        if name in DatasetCatalog.list():
            continue
        DatasetCatalog.register(name, partial(_load_nano, split))
        MetadataCatalog.get(name).set(
            stuff_classes=list(split.classes),
            stuff_colors=[class_color(name) for name in split.classes],
            ignore_label=255,
            evaluator_type="sem_seg",
            class_groups=_seen_and_unseen(split),
        )


def _seen_and_unseen(split: NanoSplit) -> dict[str, list[int]]:
    """Class ids by whether training labels name them; empty where all are seen."""
    unseen = [index for index, name in enumerate(split.classes) if name in UNSEEN_CLASSES]
    seen = [index for index in range(len(split.classes)) if index not in unseen]
    return {"seen": seen, "unseen": unseen} if unseen else {}
