"""Sets of labelled regions: COCO panoptic annotations, or those of a plug-in's dataset.

Shape legend
    K  regions of an image        H, W  image
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.image_sources import ImageRecord
from declip.data.panoptic import is_evaluated, read_panoptic
from declip.data.reading import check_same_size
from declip.plugins import from_plugins


@dataclass(frozen=True)
class RegionImage:
    """One image and its regions.

    Attributes:
        file_name: of the image.
        boxes: K×4 float (x0, y0, x1, y1), pixels.
        labels: K int64 class indices.
        segment_ids: K int64, the regions' ids in the panoptic file.
        panoptic_file_name: PNG whose colours are ids; empty where masks are not at hand.
        size: (H, W) that the annotation is for; None: it does not say.
    """

    file_name: str
    boxes: Tensor
    labels: Tensor
    segment_ids: Tensor
    panoptic_file_name: str = ""
    size: tuple[int, int] | None = None

    def image(self) -> Tensor:
        """3×H×W uint8 RGB, upright.

        Raises:
            DataError: the file is missing or unreadable, or of another size than the annotation.
        """
        image = ImageRecord(self.file_name).read()
        if self.size:
            height, width = image.shape[-2:]
            check_same_size((height, width), self.size, self.file_name, f"the annotation of {self.file_name}")
        return image

    def masks(self) -> Tensor:
        """K×H×W bool.

        Raises:
            DataError: the panoptic file is missing or unreadable.
        """
        if not Path(self.panoptic_file_name).is_file():
            raise DataError(
                f"the masks of {self.file_name} cannot be read from '{self.panoptic_file_name}', which does not exist: "
                "give the folder of panoptic PNGs, or use boxes"
            )
        return torch.from_numpy(read_panoptic(self.panoptic_file_name)) == self.segment_ids[:, None, None]


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


def load_region_set(
    source: str, image_root: str = "", dataset_root: str | Path = "datasets", panoptic_root: str = ""
) -> RegionSet:
    """Regions of a plug-in's dataset, or of a COCO panoptic ``.json`` with its images in ``image_root``.

    Args:
        panoptic_root: folder of the panoptic PNGs; empty: beside the ``.json``, called like it.

    Raises:
        DataError: the source is missing or no panoptic annotation.
    """
    added = from_plugins("datasets")
    if source in added:
        categories = added[source].metadata().get("categories")
        if categories is None:
            raise DataError(f"dataset '{source}' has no regions: give a panoptic .json, or another dataset")
        return _region_set(added[source].load(Path(dataset_root)), categories)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"region set {source} does not exist: give a panoptic .json, or one of {', '.join(added)}")
    masks = Path(panoptic_root) if panoptic_root else path.with_suffix("")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        annotations = [
            {
                **images[each["image_id"]],
                "file_name": str(Path(image_root) / images[each["image_id"]]["file_name"]),
                "panoptic_file_name": str(masks / each["file_name"]) if each.get("file_name") else "",
                "segments_info": each["segments_info"],
            }
            for each in content["annotations"]
        ]
        return _region_set(annotations, content["categories"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no panoptic annotation file ({error!r}): give one in COCO's format") from error


def _region_set(annotations: list[dict], categories: list[dict]) -> RegionSet:
    index = {category["id"]: position for position, category in enumerate(categories)}
    images = []
    for each in annotations:
        segments = [segment for segment in each["segments_info"] if is_evaluated(segment)]
        if not segments:
            continue
        corner, size = torch.tensor([segment["bbox"] for segment in segments], dtype=torch.float32).split(2, dim=1)
        images.append(
            RegionImage(
                each["file_name"],
                torch.cat([corner, corner + size], dim=1),
                torch.tensor([index[segment["category_id"]] for segment in segments]),
                torch.tensor([segment["id"] for segment in segments]),
                each["panoptic_file_name"],
                (each["height"], each["width"]) if "height" in each else None,
            )
        )
    names = tuple(category["name"] for category in categories)
    return RegionSet(tuple(images), names, tuple(bool(category["isthing"]) for category in categories))
