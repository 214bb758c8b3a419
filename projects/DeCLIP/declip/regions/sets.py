"""Sets of labelled regions: COCO panoptic annotations, or the nano world's.

Shape legend
    K  regions of an image
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from declip.errors import DataError
from declip.nano.datasets import SPLITS, load_nano
from declip.nano.vocabulary import CLASSES, STUFF


@dataclass(frozen=True)
class RegionImage:
    """One image and its regions.

    Attributes:
        file_name: of the image.
        boxes: K×4 float (x0, y0, x1, y1), pixels.
        labels: K int64 class indices.
    """

    file_name: str
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RegionSet:
    """Images with labelled regions.

    Attributes:
        images: see :class:`RegionImage`.
        class_names: in label order. is_thing: per class.
    """

    images: tuple[RegionImage, ...]
    class_names: tuple[str, ...]
    is_thing: tuple[bool, ...]


def load_region_set(source: str, image_root: str = "", dataset_root: str | Path = "datasets") -> RegionSet:
    """Regions of a nano split, or of a COCO panoptic ``.json`` with its images in ``image_root``.

    Raises:
        DataError: the source is missing or no panoptic annotation.
    """
    if source in SPLITS:
        annotations = [
            {"file_name": scene["file_name"], "segments_info": scene["segments_info"]}
            for scene in load_nano(SPLITS[source], dataset_root)
        ]
        categories = [{"id": index, "name": name, "isthing": name not in STUFF} for index, name in enumerate(CLASSES)]
        return _region_set(annotations, categories)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"region set {source} does not exist: give a panoptic .json, or one of {', '.join(SPLITS)}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: str(Path(image_root) / image["file_name"]) for image in content["images"]}
        annotations = [
            {"file_name": files[each["image_id"]], "segments_info": each["segments_info"]}
            for each in content["annotations"]
        ]
        return _region_set(annotations, content["categories"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no panoptic annotation file ({error!r}): give one in COCO's format") from error


def _region_set(annotations: list[dict], categories: list[dict]) -> RegionSet:
    index = {category["id"]: position for position, category in enumerate(categories)}
    images = []
    for each in annotations:
        segments = [segment for segment in each["segments_info"] if not segment.get("iscrowd")]
        if not segments:
            continue
        corner, size = torch.tensor([segment["bbox"] for segment in segments], dtype=torch.float32).split(2, dim=1)
        labels = torch.tensor([index[segment["category_id"]] for segment in segments])
        images.append(RegionImage(each["file_name"], torch.cat([corner, corner + size], dim=1), labels))
    names = tuple(category["name"] for category in categories)
    return RegionSet(tuple(images), names, tuple(bool(category["isthing"]) for category in categories))
