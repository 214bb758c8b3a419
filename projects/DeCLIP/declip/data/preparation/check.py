"""Is a prepared tree complete? Counts against the published numbers, pairs, sizes, label ranges, unreadable files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tabulate import tabulate

from d2host.engine.errors import DataError
from declip.data.class_lists import load_class_list
from declip.data.folder_dataset import FolderDataset, load_folder_dataset
from declip.data.preparation.conversion import map_files
from declip.data.reading import LabelFormat, check_same_size, read_image

SHOWN = 3  # troubles listed per dataset


@dataclass(frozen=True)
class Check:
    """What was found about a dataset.

    Attributes:
        name: of the dataset.
        num_images: found; 0 where it could not be listed.
        expected: published, 0: unknown.
        troubles: one sentence each; empty: the dataset is whole.
    """

    name: str
    num_images: int
    expected: int
    troubles: tuple[str, ...]


def check_dataset(name: str, dataset: FolderDataset, workers: int = 1, quick: bool = False) -> Check:
    """Check one dataset under the data root.

    Args:
        name: as registered.
        dataset: its files.
        workers: processes.
        quick: count and pair files without opening them.
    """
    try:
        records = load_folder_dataset(name, dataset)
    except DataError as error:
        return Check(name, 0, dataset.num_images, (str(error),))
    troubles = _check_count(len(records), dataset)
    if not quick:
        num_classes = len(load_class_list(dataset.classes))
        labels = LabelFormat(num_classes, dataset.ignore_label, dataset.reduce_zero_label)
        found = map_files(partial(check_pair, labels=labels), [(record,) for record in records], workers, name)
        troubles += [trouble for trouble in found if trouble]
    return Check(name, len(records), dataset.num_images, tuple(troubles))


def check_pair(record: dict, labels: LabelFormat) -> str:
    """What is wrong with an image and its label file; empty where nothing is."""
    try:
        image = read_image(record["file_name"]).shape[:2]
        sem_seg = labels.read(record["sem_seg_file_name"]).shape
        check_same_size(image, sem_seg, record["file_name"], f"label file {record['sem_seg_file_name']}")
    except DataError as error:
        return str(error)
    return ""


def report(checks: Sequence[Check]) -> str:
    """A Markdown table, and below it the first troubles of each dataset."""
    rows = [[check.name, check.num_images, check.expected or "-", len(check.troubles) or "none"] for check in checks]
    lines = [tabulate(rows, headers=["dataset", "images", "published", "troubles"], tablefmt="github")]
    for check in checks:
        lines += [f"{check.name}: {trouble}" for trouble in check.troubles[:SHOWN]]
        if len(check.troubles) > SHOWN:
            lines.append(f"{check.name}: and {len(check.troubles) - SHOWN} more")
    return "\n".join(lines)


def _check_count(found: int, dataset: FolderDataset) -> list[str]:
    expected = {count: source for source, count in dataset.also} or {dataset.num_images: "published"}
    if not dataset.num_images or found in expected:
        return []
    numbers = ", ".join(f"{count} ({source})" for count, source in expected.items())
    where = Path(dataset.images)
    return [f"{found} images instead of {numbers} below {where}: some are missing, unpack the dataset again"]
