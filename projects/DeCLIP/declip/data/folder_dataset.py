"""Datasets that are a folder of images and a folder of label files."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.listing import find_files
from declip.data.root import dataset_root

UNFINISHED = ".unfinished"
"""A file in a folder that is being prepared, and in one whose preparation did not come to its end."""


@dataclass(frozen=True)
class FolderDataset:
    """A dataset of image files and label files of the same stem.

    Attributes:
        images, labels: folders under the root, searched recursively.
        classes: name of the class list of the labels.
        prepare: what to do where files are missing.
        num_images: how many there are, as published; 0: not checked.
        image_suffix, label_suffix: of the files, in lower case; files may have them in any case.
        ignore_label: in the label files (after the reduction).
        reduce_zero_label: see :func:`declip.data.reading.read_sem_seg`.
        labelled_only: the image folder holds others too; those with a label belong to the dataset.
        vocabulary: name of the class list that predictions choose from, where it is a longer one: its classes from
            the last of ``classes`` on are background.
        also: other counts in use, by where they come from.
        things: indices of the classes that are countable objects; None: the dataset does not say.
    """

    images: str
    labels: str
    classes: str
    prepare: str
    num_images: int = 0
    image_suffix: str = ".jpg"
    label_suffix: str = ".png"
    ignore_label: int = 255
    reduce_zero_label: bool = False
    labelled_only: bool = False
    vocabulary: str = ""
    also: tuple[tuple[str, int], ...] = ()
    things: range | None = None


def load_folder_dataset(name: str, dataset: FolderDataset, root: Path | None = None) -> list[dict]:
    """Dataset dicts (``file_name``, ``sem_seg_file_name``, ``image_id``) of a folder dataset, sorted by file name.

    ``height`` and ``width`` come when an image is read. Another number of images than published is logged as a warning.

    Args:
        name: as registered.
        dataset: its files.
        root: of the data; None: :func:`declip.data.root.dataset_root`.

    Raises:
        DataError: see :func:`list_folder_dataset`; or an image or label lacks its counterpart.
    """
    image_files, label_files = list_folder_dataset(name, dataset, root)
    wanted = label_files if dataset.labelled_only else image_files
    for kind, folder, files in (("image", dataset.images, image_files), ("label", dataset.labels, label_files)):
        missing = [key for key in wanted if key not in files]
        if missing:
            where = ((root or dataset_root()) / folder).absolute()
            raise DataError(
                f"dataset '{name}' lacks {len(missing)} {kind} files in {where}, among them that of {missing[0]}: "
                f"{dataset.prepare}"
            )
    if fault := fault_in_count(len(wanted), dataset):
        logging.getLogger(__name__).warning("Dataset '%s' has %s", name, fault)
    return [
        {"file_name": str(image_files[key]), "sem_seg_file_name": str(label_files[key]), "image_id": key}
        for key in sorted(wanted)
    ]


def list_folder_dataset(
    name: str, dataset: FolderDataset, root: Path | None = None
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The image files and the label files of a folder dataset, paired or not, by what pairs them.

    Images and labels are paired by their stems, wherever they lie below their folders; where a stem occurs in several
    sub-folders, by the path below the folder. Files are listed (see :mod:`declip.data.listing`), none is opened.

    Raises:
        DataError: a folder is missing, empty or not prepared to its end, or two files cannot be told apart.
    """
    root = root or dataset_root()
    folders, found = [root / dataset.images, root / dataset.labels], []
    for folder, suffix in zip(folders, (dataset.image_suffix, dataset.label_suffix), strict=True):
        where = folder.absolute()
        if not os.path.isdir(folder):
            raise DataError(
                f"dataset '{name}' needs {where}, which does not exist: {dataset.prepare}, or set DETECTRON2_DATASETS "
                "to the folder that holds it"
            )
        if os.path.lexists(folder / UNFINISHED):
            raise DataError(f"dataset '{name}' is not prepared to its end in {where}: {dataset.prepare}, it goes on")
        found.append(find_files(folder, [suffix]))
        if not found[-1]:
            raise DataError(f"dataset '{name}' found no {suffix} file in {where}: {dataset.prepare}")
    same = _of_one_stem(found[0]) or _of_one_stem(found[1])
    images, labels = (
        {file.relative_to(folder).with_suffix("").as_posix() if same else file.stem: file for file in files}
        for folder, files in zip(folders, found, strict=True)
    )
    unpaired = labels.keys() - images if dataset.labelled_only else images.keys() - labels
    if same and (unpaired or len(images) + len(labels) < len(found[0]) + len(found[1])):
        raise DataError(
            f"{same[0]} and {same[1]} have one stem, so their labels cannot be told apart: rename one, or give the "
            "labels the sub-folders of the images"
        )
    return images, labels


def fault_in_count(found: int, dataset: FolderDataset) -> str:
    """Says where a dataset has another number of images than published; empty where it has not."""
    expected = {count: source for source, count in dataset.also} or {dataset.num_images: "published"}
    if not dataset.num_images or found in expected:
        return ""
    numbers = ", ".join(f"{count} ({source})" for count, source in expected.items())
    return f"{found} images instead of {numbers} below {dataset.images}: figures on it are not those of the benchmark"


def _of_one_stem(files: Iterable[Path]) -> tuple[Path, Path] | None:
    """The first two files that have one stem; None where all stems differ."""
    by_stem: dict[str, Path] = {}
    return next(((other, file) for file in files if (other := by_stem.setdefault(file.stem, file)) != file), None)
