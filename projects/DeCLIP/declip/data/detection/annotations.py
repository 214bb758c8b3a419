"""What an object's annotation may be, and what is wrong with one that is not.

Shape legend
    H, W  image
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from declip.data.detection.run_lengths import fault_in_mask
from declip.data.records import FLAG, IDENTIFIER, OBJECTS, PATH, SIDE, Rule, fault_in, is_integer, is_number

XYXY, XYWH = 0, 1
"""Detectron2's ``bbox_mode``: two corners, or a corner and sides; pixels."""


def _is_segmentation(value: Any) -> bool:
    """Whether this is what COCO has: polygons, or a run-length code."""
    if isinstance(value, Mapping):
        counts, size = value.get("counts"), value.get("size")
        return isinstance(counts, str | bytes | list) and isinstance(size, Sequence) and len(size) == 2
    if not isinstance(value, list):
        return False
    try:
        polygons = [np.asarray(polygon, np.float64) for polygon in value]
    except (TypeError, ValueError, OverflowError):
        return False
    # of two points, which COCO has, a polygon covers nothing
    return all(
        each.ndim == 1 and len(each) >= 4 and len(each) % 2 == 0 and np.isfinite(each).all() for each in polygons
    )


BOX = Rule(
    "a list of four numbers",
    lambda value: isinstance(value, Sequence) and len(value) == 4 and all(map(is_number, value)),
)
OBJECT = {
    "category_id": IDENTIFIER,
    "bbox": BOX,
    "segmentation": Rule("polygons of x and y, or a run-length code", _is_segmentation).optional(),
    "iscrowd": FLAG.optional(),
    "area": Rule("a number of pixels", lambda value: is_number(value) and value >= 0).optional(),
}
RECORD = {"file_name": PATH, "height": SIDE, "width": SIDE, "image_id": IDENTIFIER, "annotations": OBJECTS}
MODE = Rule("0 (corners) or 1 (corner and sides)", lambda value: is_integer(value, XYXY, XYWH))


def corners(box: Sequence[float], mode: int = XYWH) -> tuple[float, float, float, float]:
    """A box as x0, y0, x1, y1.

    >>> corners([10, 20, 5, 5])
    (10, 20, 15, 25)
    """
    left, top, third, fourth = box
    return (left, top, left + third, top + fourth) if mode == XYWH else (left, top, third, fourth)


def is_flat(box: Sequence[float], mode: int) -> bool:
    """Whether a box has no area."""
    x0, y0, x1, y1 = corners(box, mode)
    return x1 <= x0 or y1 <= y0


def fault_in_box(box: Sequence[float], mode: int, height: int, width: int) -> str:
    """What is wrong with a box; empty where nothing is. A part of it may lie outside the image.

    >>> fault_in_box([10, 20, 5, 0], XYWH, height=480, width=640)
    'its box [10, 20, 5, 0] has no area'
    >>> fault_in_box([700, 20, 5, 5], XYWH, height=480, width=640)
    'its box [700, 20, 5, 5] lies outside the image (640x480)'
    """
    x0, y0, x1, y1 = corners(box, mode)
    if is_flat(box, mode):
        return f"its box {list(box)} has no area"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return f"its box {list(box)} lies outside the image ({width}x{height})"
    return ""


def fault_in_record(record: Any, classes: Sequence[str], forbidden: Collection[int] = ()) -> str:
    """What is wrong with a dataset dict; empty where nothing is.

    Args:
        record: as Detectron2 has them.
        classes: in label order.
        forbidden: labels of classes that nobody may train on.
    """
    if fault := fault_in(record, RECORD):
        return fault
    for position, annotation in enumerate(record["annotations"]):
        fault = fault_in(annotation, {**OBJECT, "bbox_mode": MODE})
        label = annotation.get("category_id")
        if not fault and not is_integer(label, 0, len(classes) - 1):
            fault = f"'category_id' is {label!r}, but there are {len(classes)} classes"
        if not fault and label in forbidden:
            fault = f"it is of the novel class '{classes[label]}', which nobody may train on"
        size = record["height"], record["width"]
        fault = fault or fault_in_box(annotation["bbox"], annotation["bbox_mode"], *size)
        fault = fault or fault_in_mask(annotation.get("segmentation") or [], *size)
        if fault:
            return f"annotations[{position}]: {fault}"
    return ""
