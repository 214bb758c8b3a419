"""Region sets from COCO panoptic: the same format, only regions that count, each verified against its label image."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from d2host.engine.atomic import replacing
from d2host.engine.errors import DataError
from declip.data.panoptic import is_evaluated, read_panoptic
from declip.data.preparation.conversion import map_files

REMEDY = "unpack panoptic_annotations_trainval2017.zip of COCO into coco/annotations, and its panoptic_val2017.zip"
SOURCE, TARGET = "coco/annotations/panoptic_val2017", "coco/annotations/regions_val2017.json"


def keep_regions(annotation: dict, folder: Path) -> dict:
    """An image's annotation with the regions that count: no crowds, area within the limits.

    Raises:
        DataError: the label image is missing, unreadable, or lacks a listed segment.
    """
    path = folder / annotation["file_name"]
    present = set(np.unique(read_panoptic(path)).tolist())
    missing = [segment["id"] for segment in annotation["segments_info"] if segment["id"] not in present]
    if missing:
        raise DataError(f"panoptic label {path} lacks segment {missing[0]} that its annotation lists: {REMEDY}")
    return {**annotation, "segments_info": [each for each in annotation["segments_info"] if is_evaluated(each)]}


def prepare_coco_panoptic(root: Path, workers: int) -> dict[str, int]:
    """``coco/annotations/regions_val2017.json``."""
    source, target = root / f"{SOURCE}.json", root / TARGET
    if target.is_file():
        return {TARGET: 0}
    if not source.is_file():
        raise DataError(f"{source.absolute()} does not exist: {REMEDY}")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        annotations, images, categories = (content[key] for key in ("annotations", "images", "categories"))
    except (ValueError, KeyError) as error:
        raise DataError(f"{source} is no panoptic annotation file ({error!r}): {REMEDY}") from error
    keep = partial(keep_regions, folder=root / SOURCE)
    kept = map_files(keep, [(annotation,) for annotation in annotations], workers, TARGET)
    with replacing(target) as temporary:
        temporary.write_text(json.dumps({"images": images, "categories": categories, "annotations": kept}))
    return {TARGET: 1}
