"""Is a prepared tree complete? Counts against the published numbers, pairs, sizes, label ranges, unreadable files."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tabulate import tabulate
from tqdm import tqdm

from d2host.engine.errors import DataError
from declip.data.benchmarks import FolderDataset
from declip.data.class_lists import load_class_list
from declip.data.datasets import load_folder_dataset
from declip.data.reading import LabelFormat

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
        troubles += [trouble for trouble in _map(partial(check_pair, labels=labels), records, workers, name) if trouble]
    return Check(name, len(records), dataset.num_images, tuple(troubles))


def check_pair(record: dict, labels: LabelFormat) -> str:
    """What is wrong with an image and its label file; empty where nothing is."""
    try:
        with Image.open(record["file_name"]) as image:
            image.load()
            size = image.size
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        return f"image {record['file_name']} cannot be read ({error}): unpack the dataset again"
    try:
        sem_seg = labels.read(record["sem_seg_file_name"])
    except DataError as error:
        return str(error)
    if sem_seg.shape[::-1] != size:
        return (
            f"label file {record['sem_seg_file_name']} is {sem_seg.shape[1]}x{sem_seg.shape[0]}, its image "
            f"{size[0]}x{size[1]}: prepare the labels again"
        )
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


def _map(function, records: list[dict], workers: int, title: str) -> list[str]:
    if workers <= 1:
        return [function(record) for record in tqdm(records, desc=title, unit="image")]
    with ProcessPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(function, records, chunksize=16), total=len(records), desc=title, unit="image"))
