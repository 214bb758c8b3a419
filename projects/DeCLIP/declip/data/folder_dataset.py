"""Datasets that are a folder of images and a folder of label files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.listing import find_files
from declip.data.root import dataset_root


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


def load_folder_dataset(name: str, dataset: FolderDataset) -> list[dict]:
    """Dataset dicts (``file_name``, ``sem_seg_file_name``, ``image_id``) of a folder dataset, sorted by file name.

    Images and labels are paired by their stems, wherever they lie below their folders; where a stem occurs in several
    sub-folders, by the path below the folder. Files are listed (see :mod:`declip.data.listing`), none is opened:
    ``height`` and ``width`` come when an image is read.

    Raises:
        DataError: a folder is missing or empty, two files cannot be told apart, or an image or label lacks its
            counterpart.
    """
    images, labels = dataset_root() / dataset.images, dataset_root() / dataset.labels
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(
                f"dataset '{name}' needs {folder.absolute()}, which does not exist: {dataset.prepare}, or set "
                "DETECTRON2_DATASETS to the folder that holds it"
            )
    found = find_files(images, [dataset.image_suffix]), find_files(labels, [dataset.label_suffix])
    same = _of_one_stem(found[0]) or _of_one_stem(found[1])
    image_files, label_files = (
        {file.relative_to(folder).with_suffix("").as_posix() if same else file.stem: file for file in files}
        for folder, files in zip((images, labels), found, strict=True)
    )
    wanted = label_files if dataset.labelled_only else image_files
    if not wanted:
        folder, suffix = (labels, dataset.label_suffix) if dataset.labelled_only else (images, dataset.image_suffix)
        raise DataError(f"dataset '{name}' found no {suffix} file in {folder.absolute()}: {dataset.prepare}")
    for kind, folder, files in (("image", images, image_files), ("label", labels, label_files)):
        missing = [key for key in wanted if key not in files]
        if same and (missing or len(image_files) + len(label_files) < len(found[0]) + len(found[1])):
            raise DataError(
                f"{same[0]} and {same[1]} have one stem, so their labels cannot be told apart: rename one, or give the "
                "labels the sub-folders of the images"
            )
        if missing:
            raise DataError(
                f"dataset '{name}' lacks {len(missing)} {kind} files in {folder.absolute()}, among them that of "
                f"{missing[0]}: {dataset.prepare}"
            )
    return [
        {"file_name": str(image_files[key]), "sem_seg_file_name": str(label_files[key]), "image_id": key}
        for key in sorted(wanted)
    ]


def _of_one_stem(files: Iterable[Path]) -> tuple[Path, Path] | None:
    """The first two files that have one stem; None where all stems differ."""
    by_stem: dict[str, Path] = {}
    return next(((other, file) for file in files if (other := by_stem.setdefault(file.stem, file)) != file), None)
