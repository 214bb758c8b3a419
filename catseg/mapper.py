"""From a dataset dict to a training sample.

Shape legend
    image    3×H×W uint8 RGB          sem_seg  H×W int64
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catseg.augmentation import color_jitter, random_crop, random_flip, resize
from declip.data.mapper import shortest_edge_size, to_tensor
from declip.data.reading import LabelFormat, check_same_size, read_image


@dataclass(frozen=True)
class TrainMapper:
    """Reads and augments a training sample.

    Attributes:
        labels: format of the label files.
        min_sizes: the shorter side is resized to one of these.
        max_size: limit of the longer side.
        crop_size: (height, width); None: no crop.
        single_category_max_area: see :func:`catseg.augmentation.random_crop`.
        jitter: whether to distort colours.
        flip: whether to mirror.
        ignore_value: label of pixels without a class in samples, whatever it is in the files.
    """

    labels: LabelFormat
    min_sizes: Sequence[int]
    max_size: int
    crop_size: tuple[int, int] | None
    single_category_max_area: float = 1.0
    jitter: bool = True
    flip: bool = True
    ignore_value: int = 255

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
            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        )

    def __call__(self, dataset_dict: dict, rng: np.random.Generator) -> dict:
        """A dataset dict → the same with ``image`` and ``sem_seg`` tensors.

        Raises:
            DataError: a file is unreadable, or image and label differ in size.
        """
        image = read_image(dataset_dict["file_name"])
        sem_seg = self.labels.read(dataset_dict["sem_seg_file_name"])
        label_name = f"label file {dataset_dict['sem_seg_file_name']}"
        check_same_size(image.shape[:2], sem_seg.shape, dataset_dict["file_name"], label_name)
        if self.ignore_value != self.labels.ignore_label:
            sem_seg = np.where(sem_seg == self.labels.ignore_label, self.ignore_value, sem_seg)
        size = shortest_edge_size(sem_seg.shape, int(rng.choice(self.min_sizes)), self.max_size)
        image, sem_seg = resize(image, sem_seg, size)
        if self.crop_size:
            area = self.single_category_max_area
            image, sem_seg = random_crop(image, sem_seg, self.crop_size, area, self.ignore_value, rng)
        if self.jitter:
            image = color_jitter(image, rng)
        if self.flip:
            image, sem_seg = random_flip(image, sem_seg, rng)
        return {
            **dataset_dict,
            "image": to_tensor(image.transpose(2, 0, 1)),
            "sem_seg": to_tensor(sem_seg),
        }
