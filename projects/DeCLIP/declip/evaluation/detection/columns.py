"""Objects and detections of many images in little memory: columns, of which rows become dictionaries a class at a time.

Shape legend
    N  rows, by image
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask

from declip.data.detection.annotations import XYXY
from declip.data.detection.run_lengths import run_lengths

SCALARS = {"image": np.int32, "label": np.int32, "score": np.float64, "area": np.float64, "crowd": bool}
RunLengths = dict
"""A mask as COCO has it: ``size`` (H, W) and compressed ``counts``."""


@dataclass
class Columns:
    """Rows to which batches are added.

    Attributes:
        image: N int, positions of images in the dataset.
        label: N int.
        score: N float; of objects 1.
        area: of objects, N float, pixels, by which small, medium and large are told.
        crowd: N bool; of detections False.
        box: N×4 float, left, top, width, height, pixels.
        mask: N, or empty where there are none.
    """

    image: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    label: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    score: np.ndarray = field(default_factory=lambda: np.zeros(0))
    area: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    box: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    mask: list[RunLengths] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def cat(cls, parts: Sequence["Columns"]) -> "Columns":
        """All rows of some parts, by image; those of one image in their order."""
        if not parts:
            return cls()
        whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*SCALARS, "box")}
        order = np.argsort(whole["image"], kind="stable")
        masks = [mask for part in parts for mask in part.mask]
        return cls(
            **{name: column[order] for name, column in whole.items()},
            mask=[masks[row] for row in order] if masks else [],
        )

    def by_class(self, num_classes: int) -> list[np.ndarray]:
        """The rows of every class, in their order."""
        order = np.argsort(self.label, kind="stable")
        return np.split(order, np.searchsorted(self.label[order], np.arange(1, num_classes)))

    def annotations(self, rows: Sequence[int]) -> list[dict]:
        """Some rows as COCO's annotations, of one category."""
        columns = (self.image[rows], self.box[rows], self.score[rows], self.area[rows], self.crowd[rows])
        found = [
            {"id": number, "image_id": image, "category_id": 1, "bbox": box, "score": score, "area": area}
            | {"iscrowd": int(crowd)}
            for number, (image, box, score, area, crowd) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True), start=1
            )
        ]
        if self.mask:
            for annotation, row in zip(found, rows, strict=True):
                annotation["segmentation"] = self.mask[row]
        return found


def objects_of(record: Mapping, image: int, masks: bool) -> Columns:
    """The objects of a dataset dict.

    Args:
        record: with ``annotations``; their ``area`` is that of the mask where they do not say.
        image: its position in the dataset.
        masks: whether they are wanted.

    Raises:
        KeyError: an annotation has no ``segmentation``, and masks are wanted.
    """
    annotations, size = record["annotations"], (record["height"], record["width"])
    number = len(annotations)
    boxes = np.array([each["bbox"] for each in annotations], np.float64).reshape(number, 4)
    in_corners = np.array([each["bbox_mode"] == XYXY for each in annotations], bool)
    boxes[in_corners, 2:] -= boxes[in_corners, :2]
    area, found = boxes[:, 2] * boxes[:, 3], []
    for row, annotation in enumerate(annotations):
        stated, segmentation = annotation.get("area"), annotation.get("segmentation")
        if masks or (stated is None and segmentation):
            mask = run_lengths(annotation["segmentation"], *size)
            area[row] = coco_mask.area(mask)
            found.append(mask)
        area[row] = area[row] if stated is None else stated
    return Columns(
        np.full(number, image, np.int32),
        np.array([each["category_id"] for each in annotations], np.int32),
        np.ones(number),
        area,
        np.array([bool(each.get("iscrowd")) for each in annotations], bool),
        boxes,
        found if masks else [],
    )
