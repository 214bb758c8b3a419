"""From a dataset dict to a test image of the wanted size.

Shape legend
    image    3×H×W uint8 RGB          sem_seg  H×W int64
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from declip.data.reading import read_image


def resize_shortest_edge(
    image: np.ndarray, sem_seg: np.ndarray | None, size: int, max_size: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale so that the shorter side is ``size``, or the longer ``max_size`` where that is less.

    Bilinear (with PIL's antialiasing) for the image, nearest for labels.
    """
    height, width = image.shape[:2]
    scale = min(size / min(height, width), max_size / max(height, width))
    new_size = (max(round(width * scale), 1), max(round(height * scale), 1))
    if new_size != (width, height):
        image = np.asarray(Image.fromarray(image).resize(new_size, Image.Resampling.BILINEAR))
        if sem_seg is not None:
            labels = Image.fromarray(sem_seg.astype(np.int32)).resize(new_size, Image.Resampling.NEAREST)
            sem_seg = np.asarray(labels).astype(np.int64)
    return image, sem_seg


@dataclass(frozen=True)
class TestMapper:
    """Reads a test image and resizes it; ``height`` and ``width`` stay those of the file.

    Attributes:
        min_size: of the shorter side; 0: images stay as they are.
        max_size: limit of the longer side.
    """

    min_size: int
    max_size: int

    def __call__(self, dataset_dict: dict) -> dict:
        """A dataset dict → the same with an ``image`` tensor.

        Raises:
            DataError: the image is unreadable.
        """
        return {**dataset_dict, **self.resize(read_image(dataset_dict["file_name"]))}

    def resize(self, image: np.ndarray) -> dict:
        """An image H×W×3 uint8 → ``image`` 3×h×w, and ``height`` and ``width`` as they were."""
        height, width = image.shape[:2]
        if self.min_size:
            image, _ = resize_shortest_edge(image, None, self.min_size, self.max_size)
        return {"image": to_tensor(image.transpose(2, 0, 1)), "height": height, "width": width}


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """An array, of whatever strides, as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))
