"""Is a prepared tree complete? Counts against the published numbers, pairs, sizes, label ranges, unreadable files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tabulate import tabulate

from d2host.engine.errors import DataError
from declip.data.class_lists import load_class_list
from declip.data.folder_dataset import FolderDataset, fault_in_count, list_folder_dataset
from declip.data.preparation.conversion import map_files
from declip.data.reading import LabelFormat, check_same_size, read_image, read_size

SHOWN = 3  # faults of a kind that are spelled out per dataset
FOLDERS, COUNT = "folders", "number of images"
NO_LABEL, NO_IMAGE = "image without label", "label without image"
IMAGE, LABEL, SIZE = "unreadable image", "unreadable or impossible label", "label of another size"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: as the table counts it.
        sentence: with the file's name.
    """

    kind: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Check:
    """What was found about a dataset.

    Attributes:
        name: of the dataset.
        num_images: found; 0 where it could not be listed.
        expected: published, 0: unknown.
        faults: all of them; empty: the dataset is whole.
    """

    name: str
    num_images: int
    expected: int
    faults: tuple[Fault, ...]

    @property
    def troubles(self) -> tuple[str, ...]:
        """The sentences of the faults."""
        return tuple(map(str, self.faults))


def check_dataset(
    name: str,
    dataset: FolderDataset,
    workers: int = 1,
    quick: bool = False,
    decode: bool = True,
    root: Path | None = None,
) -> Check:
    """Check one dataset, all of it: no fault hides another.

    Args:
        name: as registered.
        dataset: its files.
        workers: processes.
        quick: count and pair files without opening them.
        decode: read images whole; otherwise only their sizes.
        root: of the data; None: :func:`declip.data.root.dataset_root`.
    """
    try:
        images, labels = list_folder_dataset(name, dataset, root)
    except DataError as error:
        return Check(name, 0, dataset.num_images, (Fault(FOLDERS, str(error)),))
    found = len(labels if dataset.labelled_only else images)
    faults = [Fault(COUNT, fault)] if (fault := fault_in_count(found, dataset)) else []
    if not dataset.labelled_only:
        faults += [Fault(NO_LABEL, f"image {images[stem]} has no label") for stem in sorted(images.keys() - labels)]
    faults += [Fault(NO_IMAGE, f"label file {labels[stem]} has no image") for stem in sorted(labels.keys() - images)]
    if not quick:
        label_format = LabelFormat(
            len(load_class_list(dataset.classes)), dataset.ignore_label, dataset.reduce_zero_label
        )
        pairs = [
            ({"file_name": str(images[stem]), "sem_seg_file_name": str(labels[stem])},)
            for stem in sorted(images.keys() & labels.keys())
        ]
        check = partial(check_pair, labels=label_format, decode=decode)
        faults += [fault for each in map_files(check, pairs, workers, name) for fault in each]
    return Check(name, found, dataset.num_images, tuple(faults))


def check_pair(record: Mapping[str, str], labels: LabelFormat, decode: bool = True) -> list[Fault]:
    """What is wrong with an image and its label file.

    Args:
        record: a dataset dict.
        labels: how label files are read.
        decode: read the image whole; otherwise only its size.
    """
    image, label = record["file_name"], record["sem_seg_file_name"]
    steps = (
        (IMAGE, lambda: read_image(image).shape[:2] if decode else read_size(image)),
        (LABEL, lambda: labels.read(label).shape),
        (SIZE, lambda: check_same_size(*sizes, image, f"label file {label}")),
    )
    faults, sizes = [], []
    for kind, step in steps:
        try:
            if kind != SIZE or not faults:
                sizes.append(step())
        except DataError as error:
            faults.append(Fault(kind, str(error)))
    return faults


def report(checks: Sequence[Check]) -> str:
    """Two Markdown tables: the datasets, and the kinds of faults of each with their numbers and first sentences."""
    rows = [[check.name, check.num_images, check.expected or "-", len(check.faults) or "none"] for check in checks]
    text = tabulate(rows, headers=["dataset", "images", "published", "faults"], tablefmt="github")
    listed = [
        [check.name, kind, count, "; ".join([fault.sentence for fault in check.faults if fault.kind == kind][:SHOWN])]
        for check in checks
        for kind, count in Counter(fault.kind for fault in check.faults).items()
    ]
    if listed:
        text += "\n\n" + tabulate(listed, headers=["dataset", "fault", "number", "the first"], tablefmt="github")
    return text
