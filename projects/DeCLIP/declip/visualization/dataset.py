"""A registered dataset: images and labels side by side, as training reads them.

Shape legend
    H, W  image
"""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from declip.data.datasets import dataset_metadata, dataset_records
from declip.data.reading import LabelFormat, check_same_size, read_image
from declip.evaluation.visualizer import Segmentation, check_rows, draw


def labelled_images(name: str, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images H×W×3 uint8 of a registered dataset, spread evenly over it, with labels H×W int64, -1 where ignored.

    Raises:
        DataError: the dataset is not registered or incomplete, a figure does not hold as many, or a file is unreadable.
    """
    check_rows(count)
    records, labels = dataset_records(name), LabelFormat.of(dataset_metadata(name))
    for index in np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int):
        file_name, label_name = records[index]["file_name"], records[index]["sem_seg_file_name"]
        sem_seg, image = labels.read(label_name), read_image(file_name)
        check_same_size(image.shape[:2], sem_seg.shape, file_name, f"label file {label_name}")
        yield image, np.where(sem_seg == labels.ignore_label, -1, sem_seg)


def class_colors(name: str) -> np.ndarray:
    """The colours of the classes of a registered dataset, K×3 in 0..255."""
    return np.asarray(dataset_metadata(name).stuff_colors, dtype=np.float32)


def dataset(name: str, count: int = 6) -> Figure:
    """A figure of images and labels of a registered dataset, a row each.

    Args:
        name: of the dataset.
        count: images, spread evenly over the dataset.

    Raises:
        DataError: see :func:`labelled_images`.

    >>> from declip.visualization import dataset
    >>> dataset("nano_val", count=2).savefig("dataset.png")
    """
    rows = [Segmentation.of(image, {"labels": labels}) for image, labels in labelled_images(name, count)]
    return draw(rows, dataset_metadata(name).stuff_classes, class_colors(name))
