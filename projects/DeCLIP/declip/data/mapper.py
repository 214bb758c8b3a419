"""From a dataset dict to a test image of the wanted size.

Shape legend
    image    3×H×W uint8 RGB          sem_seg  H×W int64
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from declip.data.reading import check_same_size, read_image


def fitted(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(H, W), made smaller where the longer side exceeds ``long_side``; the shape stays, no side vanishes.

    >>> fitted((3000, 4000), 2048), fitted((480, 640), 2048), fitted((2000, 1), 1000)
    ((1536, 2048), (480, 640), (1000, 1))
    """
    scale = min(long_side / max(size), 1)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image H×W×3 at (h, w), bilinear with PIL's antialiasing."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels H×W at (h, w), each that of the nearest pixel, in little more memory than the result has."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.int64) for new, old in zip(size, labels.shape, strict=True)
    )
    return labels.take(columns, axis=1).take(rows, axis=0)


def shortest_edge_size(size: tuple[int, int], short_side: int, most: int) -> tuple[int, int]:
    """(H, W) scaled so that the shorter side is ``short_side``, or the longer ``most`` where that is less.

    >>> shortest_edge_size((480, 640), 384, 2048), shortest_edge_size((480, 6400), 384, 2048)
    ((384, 512), (154, 2048))
    """
    scale = min(short_side / min(size), most / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


@dataclass(frozen=True)
class TestMapper:
    """Reads a test image and resizes it; ``height`` and ``width`` stay those of the file.

    Attributes:
        min_size: of the shorter side; 0: images stay as they are, or within both limits where ``most_pixels`` is given.
        max_size: limit of the longer side.
        most_pixels: limit of their number, where ``min_size`` is 0; 0: none.
    """

    min_size: int
    max_size: int
    most_pixels: int = 0

    def __call__(self, dataset_dict: dict) -> dict:
        """A dataset dict → the same with an ``image`` tensor.

        Raises:
            DataError: the image is unreadable, or of another size than the dict says.
        """
        image, file_name = read_image(dataset_dict["file_name"]), str(dataset_dict["file_name"])
        stated = dataset_dict.get("height"), dataset_dict.get("width")
        if all(stated):
            check_same_size(image.shape[:2], stated, file_name, f"the dataset dict of {file_name}")
        return {**dataset_dict, **self.resize(image)}

    def resize(self, image: np.ndarray) -> dict:
        """An image H×W×3 uint8 → ``image`` 3×h×w, and ``height`` and ``width`` as they were."""
        height, width = image.shape[:2]
        if self.min_size:
            image = resize_image(image, shortest_edge_size((height, width), self.min_size, self.max_size))
        elif self.most_pixels:
            shrunk = min((self.most_pixels / (height * width)) ** 0.5, 1) * max(height, width)
            image = resize_image(image, fitted((height, width), min(self.max_size, round(shrunk))))
        return {"image": to_tensor(image.transpose(2, 0, 1)), "height": height, "width": width}


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """An array, of whatever strides, as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))
