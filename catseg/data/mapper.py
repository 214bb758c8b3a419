"""From a dataset dict to what the model takes.

Shape legend
    image    3×H×W uint8 RGB          sem_seg  H×W int64
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from catseg.data.augmentation import color_jitter, random_crop, random_flip, resize_shortest_edge
from catseg.data.reading import read_image, read_sem_seg
from declip.errors import DataError


@dataclass(frozen=True)
class LabelFormat:
    """How the label files of a dataset are read; see :func:`catseg.data.reading.read_sem_seg`."""

    num_classes: int
    ignore_label: int = 255
    reduce_zero_label: bool = False

    @classmethod
    def of(cls, metadata) -> "LabelFormat":
        """From a dataset's metadata."""
        return cls(
            len(metadata.stuff_classes), metadata.get("ignore_label", 255), metadata.get("reduce_zero_label", False)
        )

    def read(self, path: str) -> np.ndarray:
        """A label file as H×W int64."""
        return read_sem_seg(
            path,
            num_classes=self.num_classes,
            ignore_label=self.ignore_label,
            reduce_zero_label=self.reduce_zero_label,
        )


@dataclass(frozen=True)
class TrainMapper:
    """Reads and augments a training sample.

    Attributes:
        labels: format of the label files.
        min_sizes: the shorter side is resized to one of these.
        max_size: limit of the longer side.
        crop_size: (height, width); None: no crop.
        single_category_max_area: see :func:`catseg.data.augmentation.random_crop`.
        jitter: whether to distort colours.
        flip: whether to mirror.
    """

    labels: LabelFormat
    min_sizes: Sequence[int]
    max_size: int
    crop_size: tuple[int, int] | None
    single_category_max_area: float = 1.0
    jitter: bool = True
    flip: bool = True

    @classmethod
    def from_config(cls, cfg, metadata) -> "TrainMapper":
        """From ``cfg.INPUT`` and a dataset's metadata."""
        crop = cfg.INPUT.CROP
        return cls(
            labels=LabelFormat.of(metadata),
            min_sizes=tuple(cfg.INPUT.MIN_SIZE_TRAIN),
            max_size=cfg.INPUT.MAX_SIZE_TRAIN,
            crop_size=tuple(crop.SIZE) if crop.ENABLED else None,
            single_category_max_area=crop.SINGLE_CATEGORY_MAX_AREA,
            jitter=cfg.INPUT.COLOR_AUG_SSD,
            flip=cfg.INPUT.RANDOM_FLIP == "horizontal",
        )

    def __call__(self, dataset_dict: dict, rng: np.random.Generator) -> dict:
        """A dataset dict → the same with ``image`` and ``sem_seg`` tensors.

        Raises:
            DataError: a file is unreadable, or image and label differ in size.
        """
        image = read_image(dataset_dict["file_name"])
        sem_seg = self.labels.read(dataset_dict["sem_seg_file_name"])
        if image.shape[:2] != sem_seg.shape:
            raise DataError(
                f"label file {dataset_dict['sem_seg_file_name']} is {sem_seg.shape[1]}x{sem_seg.shape[0]}, its image "
                f"{image.shape[1]}x{image.shape[0]}: prepare the labels again"
            )
        size = int(rng.choice(self.min_sizes))
        image, sem_seg = resize_shortest_edge(image, sem_seg, size, self.max_size)
        if self.crop_size:
            area = self.single_category_max_area
            image, sem_seg = random_crop(image, sem_seg, self.crop_size, area, self.labels.ignore_label, rng)
        if self.jitter:
            image = color_jitter(image, rng)
        if self.flip:
            image, sem_seg = random_flip(image, sem_seg, rng)
        return {
            **dataset_dict,
            "image": _to_tensor(image.transpose(2, 0, 1)),
            "sem_seg": _to_tensor(sem_seg),
        }


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
        image = read_image(dataset_dict["file_name"])
        height, width = image.shape[:2]
        if self.min_size:
            image, _ = resize_shortest_edge(image, None, self.min_size, self.max_size)
        return {**dataset_dict, "image": _to_tensor(image.transpose(2, 0, 1)), "height": height, "width": width}


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
