"""Sets of labelled regions: COCO panoptic annotations, or those of a plug-in's dataset.

Shape legend
    K  regions of an image        H, W  image
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.image_list import ImageRecord
from declip.data.panoptic import fault_in_segments, is_evaluated, load_panoptic, read_panoptic
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
            DataError: the file is missing or unreadable, or of another size than the annotation: regions are not
                scaled, since nothing says that the two show the same.
        """
        image = ImageRecord(self.file_name).read()
        found, size, source = tuple(image.shape[-2:]), self.size, f"the annotation of {self.file_name}"
        if size is None and os.path.isfile(self.panoptic_file_name):
            size, source = read_panoptic(self.panoptic_file_name).shape, f"panoptic label {self.panoptic_file_name}"
        if size:
            check_same_size(found, size, self.file_name, source)
        if (self.boxes.reshape(-1, 2, 2) > torch.tensor(found[::-1]) + 1).any():
            raise DataError(
                f"{self.file_name} is {found[1]}x{found[0]}, and boxes of its annotation leave it: give the images "
                "that were annotated, in full size"
            )
        return image

    def masks(self, size: tuple[int, int] | None = None) -> Tensor:
        """K×H×W bool.

        Args:
            size: (H, W) that they are scaled to, each pixel that of the nearest; None: as they are.

        Raises:
            DataError: the panoptic file is missing or unreadable, of another size than the annotation, or lacks a
                region. Segments that it has besides are no regions of this set.
        """
        self.check_masks()
        ids = torch.from_numpy(read_panoptic(self.panoptic_file_name, self.segment_ids.tolist(), self.size))
        if size:
            ids = F.interpolate(ids[None, None].float(), size=size, mode="nearest")[0, 0]  # below 2^24: exact
        return ids == self.segment_ids[:, None, None]

    def check_masks(self) -> None:
        """Refuse regions without masks.

        Raises:
            DataError: the panoptic file does not exist, or none is named.
        """
        if not os.path.isfile(self.panoptic_file_name):
            raise DataError(
                f"the masks of {self.file_name} cannot be read from '{self.panoptic_file_name}', which does not exist: "
                "give the folder of panoptic PNGs (--panoptic-root), or use boxes"
            )


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

    def first(self, max_images: int = 0, masks: bool = False) -> Sequence[RegionImage]:
        """The images to evaluate on: files that are missing, and that it is a part, are said before any is read.

        Args:
            max_images: only the first; 0: all.
            masks: their panoptic files, too.

        Raises:
            DataError: files are missing.
        """
        images = self.images[: max_images or None]
        missing = [image.file_name for image in images if not os.path.isfile(image.file_name)]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(images)} images of the region set do not exist, among them {missing[0]}: "
                "give the folder of its images as image_root (--image-root, TEST.IMAGE_ROOT)"
            )
        if masks:
            for image in images:
                image.check_masks()
        if len(images) < len(self.images):
            logging.getLogger(__name__).warning(
                "Numbers are of the first %d of %d images, and no match for those of the whole set",
                *(len(images), len(self.images)),
            )
        return images


def load_region_set(
    source: str, image_root: str = "", dataset_root: str | Path = "datasets", panoptic_root: str = ""
) -> RegionSet:
    """Regions of a plug-in's dataset, or of a COCO panoptic ``.json`` with its images.

    Files of a ``.json`` are found where COCO has them: for ``annotations/panoptic_val2017.json`` (or a set prepared
    from it, ``annotations/regions_val2017.json``) images in ``val2017`` and PNGs in ``annotations/panoptic_val2017``.

    Args:
        image_root: folder of the images; empty: ``val2017`` above or beside the ``.json``, or the folder of that.
        panoptic_root: folder of the PNGs; empty: beside the ``.json``, called like it or ``panoptic_val2017``.

    Raises:
        DataError: the source is missing or no panoptic annotation, no region counts, or the images are not found, or
            folders are given for a dataset that has its own.
    """
    added = from_plugins("datasets")
    if source in added:
        categories = added[source].metadata().get("categories")
        if categories is None:
            raise DataError(f"dataset '{source}' has no regions: give a panoptic .json, or another dataset")
        if image_root or panoptic_root:
            raise DataError(
                f"dataset '{source}' has its own images: image_root and panoptic_root (--image-root, --panoptic-root, "
                "TEST.IMAGE_ROOT) are for a panoptic .json, leave them out"
            )
        annotations, ids = added[source].load(Path(dataset_root)), {category["id"] for category in categories}
        for each in annotations:
            if fault := fault_in_segments(each["segments_info"], ids, each.get("height"), each.get("width")):
                raise DataError(f"dataset '{source}', {each['file_name']}: {fault}: repair its plug-in")
        return _region_set(source, annotations, categories)
    path = Path(source)
    if not os.path.isfile(path):
        raise DataError(
            f"region set {source} is no file that exists: give a panoptic .json, or one of {', '.join(added)}"
        )
    content = load_panoptic(path)
    images = {image["id"]: image for image in content["images"]}
    folder = Path(image_root) if image_root else _image_folder(path, content["images"][0]["file_name"])
    beside = (path.with_suffix(""), path.with_name(f"panoptic_{path.stem.rpartition('_')[2]}"))
    masks = Path(panoptic_root) if panoptic_root else next((each for each in beside if os.path.isdir(each)), beside[0])
    annotations = [
        {
            **images[each["image_id"]],
            "file_name": str(folder / images[each["image_id"]]["file_name"]),
            "panoptic_file_name": str(masks / each["file_name"]) if each.get("file_name") else "",
            "segments_info": each["segments_info"],
        }
        for each in content["annotations"]
    ]
    return _region_set(source, annotations, content["categories"])


def _image_folder(path: Path, name: str) -> Path:
    """The folder around a JSON file that holds the first of its images."""
    kind, _, split = path.stem.rpartition("_")  # as in "panoptic_val2017"
    tried = (*((path.parent.parent / split, path.parent / split) if kind else ()), path.parent)
    for folder in tried:
        if os.path.isfile(folder / name):
            return folder
    raise DataError(
        f"the images of {path} were not found: {name} is in none of {', '.join(map(str, tried))}: "
        "give their folder as image_root (--image-root, TEST.IMAGE_ROOT)"
    )


def _region_set(source: str, annotations: Sequence[dict], categories: Sequence[dict]) -> RegionSet:
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
                each.get("panoptic_file_name", ""),
                (each["height"], each["width"]) if each.get("height") and each.get("width") else None,
            )
        )
    if not images:
        raise DataError(f"region set {source} has no region that counts: crowds, and tiny and huge ones, do not")
    if len(images) < len(annotations):
        logging.getLogger(__name__).info(
            "Region set %s: %d of %d images hold a region that counts", source, len(images), len(annotations)
        )
    names = tuple(category["name"] for category in categories)
    return RegionSet(tuple(images), names, tuple(bool(category["isthing"]) for category in categories))
