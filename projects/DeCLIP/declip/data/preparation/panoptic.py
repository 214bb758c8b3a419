"""Region sets from COCO panoptic: the same format, each region verified against its label image."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from d2host.engine.errors import DataError
from declip.data.panoptic import VOID, is_evaluated, load_panoptic, read_panoptic
from declip.data.preparation.conversion import map_files, writing

REMEDY = "unpack panoptic_annotations_trainval2017.zip of COCO into coco/annotations, and its panoptic_val2017.zip"
SOURCE, TARGET = "coco/annotations/panoptic_val2017", "coco/annotations/regions_val2017.json"


def keep_regions(annotation: dict, size: tuple[int, int] | None, folder: Path) -> dict:
    """An image's annotation with the regions that count: no crowds, area within the limits.

    Args:
        annotation: as :func:`declip.data.panoptic.load_panoptic` checks it.
        size: (H, W) of the image; None: unknown.
        folder: of the label images.

    Raises:
        DataError: the label image is missing, unreadable or of another size, or its segments are not those listed.
    """
    path, listed = folder / annotation["file_name"], {each["id"]: each["area"] for each in annotation["segments_info"]}
    ids = read_panoptic(path, listed, size)
    found = dict(zip(*(array.tolist() for array in np.unique(ids, return_counts=True)), strict=True))
    unlisted = [segment for segment in found if segment != VOID and segment not in listed]
    if unlisted:
        raise DataError(f"panoptic label {path} holds segment {unlisted[0]}, which its annotation lacks: {REMEDY}")
    other = [segment for segment, area in listed.items() if found[segment] != area]
    if other:
        areas = f"{found[other[0]]} pixels, its annotation says {listed[other[0]]}"
        raise DataError(f"segment {other[0]} in panoptic label {path} has {areas}: {REMEDY}")
    return {**annotation, "segments_info": [each for each in annotation["segments_info"] if is_evaluated(each)]}


def prepare_coco_panoptic(root: Path, workers: int) -> dict[str, int]:
    """``coco/annotations/regions_val2017.json``."""
    source, target = root / f"{SOURCE}.json", root / TARGET
    if os.path.isfile(target):
        load_panoptic(target, "remove it and run again")
        return {TARGET: 0}
    if not os.path.isfile(source):
        raise DataError(f"{source.absolute()} does not exist: {REMEDY}")
    content = load_panoptic(source, REMEDY)
    sizes = {
        each["id"]: (each["height"], each["width"]) for each in content["images"] if {"height", "width"} <= each.keys()
    }
    unnamed = [each["image_id"] for each in content["annotations"] if not each.get("file_name")]
    if unnamed:
        raise DataError(f"{source} names no label image ('file_name') of image {unnamed[0]}: {REMEDY}")
    tasks = [(annotation, sizes.get(annotation["image_id"])) for annotation in content["annotations"]]
    kept = map_files(partial(keep_regions, folder=root / SOURCE), tasks, workers, TARGET)
    with writing(target) as temporary:
        temporary.write_text(json.dumps({**content, "annotations": kept}), encoding="utf-8")
    return {TARGET: 1}
