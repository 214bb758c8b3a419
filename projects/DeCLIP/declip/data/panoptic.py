"""COCO panoptic annotations: a JSON file of regions, their ids in the colours of PNGs, and which are evaluated.

Source: the panoptic format of COCO (https://cocodataset.org/#format-data); the limits of area are those of region
classification (DeCLIP, Fig. 6).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2host.engine.errors import DataError
from declip.data.reading import read_array
from declip.data.records import (
    FLAG,
    IDENTIFIER,
    INSIDE,
    OBJECTS,
    SIDE,
    TEXT,
    Rule,
    fault_in,
    is_integer,
    is_number,
    twice,
)
from declip.data.text_files import read_json

LEAST_AREA, MOST_AREA = 8**2, 1024**2  # of a region that is evaluated, pixels
VOID = 0  # id of the pixels that belong to no segment

CATEGORY = {"id": IDENTIFIER, "name": TEXT, "isthing": FLAG}
IMAGE = {"id": IDENTIFIER, "file_name": INSIDE, "height": SIDE.optional(), "width": SIDE.optional()}
ANNOTATION = {"image_id": IDENTIFIER, "segments_info": OBJECTS, "file_name": INSIDE.optional()}
SEGMENT = {
    "id": Rule("a whole number below 2^24, as a colour can say", lambda value: is_integer(value, 0, 2**24 - 1)),
    "category_id": IDENTIFIER,
    "area": Rule("a number of pixels", lambda value: is_number(value) and value >= 0),
    "bbox": Rule(
        "a list of four numbers: left, top, width, height",
        lambda value: isinstance(value, Sequence) and len(value) == 4 and all(map(is_number, value)),
    ),
    "iscrowd": FLAG.optional(),
}


def load_panoptic(path: str | Path, remedy: str = "give one in COCO's format") -> dict[str, list[dict]]:
    """The ``images``, ``annotations`` and ``categories`` of a panoptic JSON file, each checked.

    Args:
        path: of the file.
        remedy: what to do where it cannot be used.

    Raises:
        DataError: the file is missing or unreadable, is of another shape, repeats an id, or names an image, a category
            or a box that is not there.
    """
    content = read_json(path, "panoptic annotation file", remedy)
    if fault := _fault_in_file(content):
        raise DataError(f"{path} is no panoptic annotation file ({fault}): {remedy}")
    return {key: content[key] for key in ("images", "annotations", "categories")}


def _fault_in_file(content: Any) -> str:
    rules = {"images": IMAGE, "annotations": ANNOTATION, "categories": CATEGORY}
    if fault := fault_in(content, dict.fromkeys(rules, OBJECTS)):
        return fault
    for key, each in rules.items():
        if not content[key]:
            return f"'{key}' is empty"
        for position, record in enumerate(content[key]):
            if fault := fault_in(record, each):
                return f"{key}[{position}]: {fault}"
    for key, name in (("images", "id"), ("categories", "id"), ("categories", "name"), ("annotations", "image_id")):
        if repeated := twice([record[name] for record in content[key]]):
            return f"'{key}' has '{name}' {repeated[0]} twice"
    images = {image["id"]: image for image in content["images"]}
    for image in content["images"]:
        if (image.get("height") is None) != (image.get("width") is None):
            return f"image {image['file_name']} has only one of 'height' and 'width'"
    categories = {category["id"] for category in content["categories"]}
    for position, annotation in enumerate(content["annotations"]):
        image = images.get(annotation["image_id"])
        if image is None:
            return f"annotations[{position}] is of image {annotation['image_id']}, which 'images' lacks"
        if fault := fault_in_segments(annotation["segments_info"], categories, image.get("height"), image.get("width")):
            return f"annotations[{position}], of image {image['file_name']}: {fault}"
    return ""


def fault_in_segments(
    segments: Sequence[Mapping], categories: Collection, height: int | None = None, width: int | None = None
) -> str:
    """What is wrong with the ``segments_info`` of an image; empty where nothing is.

    >>> segment = {"id": 5, "category_id": 1, "area": 90, "bbox": [0, 0, 10, 10]}
    >>> fault_in_segments([segment], categories={1}, height=20, width=30)
    ''
    >>> fault_in_segments([segment, segment], categories={1})
    'segment 5 is listed twice'

    Args:
        segments: as COCO has them.
        categories: the ids that there are.
        height, width: of the image; None: unknown.
    """
    for position, segment in enumerate(segments):
        if fault := fault_in(segment, SEGMENT):
            return f"segments_info[{position}]: {fault}"
        if segment["category_id"] not in categories:
            return f"segment {segment['id']} is of category {segment['category_id']}, which 'categories' lacks"
        left, top, wide, high = segment["bbox"]
        if is_evaluated(segment) and (wide <= 0 or high <= 0 or segment["area"] > (wide + 1) * (high + 1)):
            return f"segment {segment['id']} has area {segment['area']}, more than its box of {wide}x{high}"
        outside = width and height and (left + wide > width + 1 or top + high > height + 1)
        if is_evaluated(segment) and (left < -1 or top < -1 or outside):
            return f"the box {segment['bbox']} of segment {segment['id']} leaves the image ({width}x{height})"
    repeated = twice([segment["id"] for segment in segments])
    return f"segment {repeated[0]} is listed twice" if repeated else ""


def read_panoptic(path: str | Path, listed: Collection[int] = (), size: tuple[int, int] | None = None) -> np.ndarray:
    """The segment ids of a panoptic PNG, H×W int64: R + 256 G + 256² B of every pixel.

    Args:
        path: of the file.
        listed: ids that it has to hold.
        size: (H, W) that it has to have; None: any.

    Raises:
        DataError: the file is missing, unreadable, no colour image, of another size, or lacks a listed segment.
    """
    colors = read_array(path)
    if colors.ndim != 3 or colors.shape[-1] not in (3, 4) or colors.dtype != np.uint8:
        raise DataError(f"panoptic label {path} is no RGB image of 8 bits: give COCO's panoptic PNGs")
    ids = colors[..., :3].astype(np.int64) @ np.array([1, 256, 256**2])
    if size and ids.shape != size:
        raise DataError(
            f"panoptic label {path} is {ids.shape[1]}x{ids.shape[0]}, its annotation is for {size[1]}x{size[0]}: give "
            "the PNGs that belong to the annotation, as they were unpacked"
        )
    present = set(np.unique(ids).tolist())
    missing = [each for each in listed if each not in present]
    if missing:
        raise DataError(
            f"panoptic label {path} lacks segment {missing[0]} that its annotation lists ({len(missing)} in all): "
            "give the PNGs that belong to the annotation, as they were unpacked"
        )
    return ids


def is_evaluated(segment: Mapping[str, Any]) -> bool:
    """Whether a segment of ``segments_info`` is a region to classify: no crowd, of a sensible area.

    >>> is_evaluated({"area": 100, "iscrowd": 0}), is_evaluated({"area": 100, "iscrowd": 1}), is_evaluated({"area": 9})
    (True, False, False)
    """
    return not segment.get("iscrowd") and LEAST_AREA <= segment["area"] <= MOST_AREA
