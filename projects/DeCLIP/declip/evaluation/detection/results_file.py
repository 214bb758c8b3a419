"""Detections in COCO's results format: a JSON list of ``image_id``, ``category_id``, ``score``, ``bbox`` or masks."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from d2host.engine.errors import DataError
from declip.data.detection.annotations import OBJECT
from declip.data.detection.datasets import image_ids
from declip.data.detection.run_lengths import fault_in_mask, run_lengths
from declip.data.records import IDENTIFIER, Rule, fault_in, is_number
from declip.data.text_files import read_json
from declip.evaluation.detection.evaluator import DetectionEvaluator

REMEDY = "give one in COCO's results format"
_RESULT = {
    "image_id": IDENTIFIER,
    "category_id": IDENTIFIER,
    "score": Rule("a number", is_number),
    "bbox": OBJECT["bbox"].optional(),
    "segmentation": OBJECT["segmentation"],
}


def add_results(evaluator: DetectionEvaluator, path: str | Path) -> None:
    """Hand the detections of a results file to an evaluator, whose images are then all evaluated.

    Args:
        evaluator: of the dataset that the file is of.
        path: of the file.

    Raises:
        DataError: the file is missing, none, or of another dataset: of categories or images that this one lacks.
    """
    content = read_json(path, "results file", REMEDY)
    if not isinstance(content, list):
        raise DataError(f"results file {path} holds a {type(content).__name__}, not a list of detections: {REMEDY}")
    by_image: Mapping[Any, list[dict]] = defaultdict(list)
    masks, known = "segm" in evaluator.tasks, set(image_ids(evaluator.records))
    sizes = {record["image_id"]: (record["height"], record["width"]) for record in evaluator.records} if masks else {}
    for position, each in enumerate(content):
        fault = fault_in(each, _RESULT)
        if not fault and each["category_id"] not in evaluator.category_ids:
            fault = f"it is of category {each['category_id']}, which the dataset lacks: its vocabulary is another"
        if not fault and each["image_id"] not in known:
            fault = f"it is of image {each['image_id']}, which the dataset lacks"
        if not fault and each.get("segmentation" if masks else "bbox") is None:
            fault = f"it has no '{'segmentation' if masks else 'bbox'}'"
        if not fault and masks:
            fault = fault_in_mask(each["segmentation"], *sizes[each["image_id"]])
        if fault:
            raise DataError(f"results file {path}, detection {position}: {fault}: {REMEDY}, of this dataset")
        by_image[each["image_id"]].append(each)
    for number in known:
        found = by_image.get(number, [])
        scores = np.array([each["score"] for each in found], np.float64)
        labels = np.array([evaluator.category_ids[each["category_id"]] for each in found], np.int32)
        rows = evaluator.counted(number, scores, labels)
        boxes = np.array([found[row].get("bbox") or (0, 0, 0, 0) for row in rows], np.float64).reshape(-1, 4)
        codes = [run_lengths(found[row]["segmentation"], *sizes[number]) for row in rows] if masks else []
        evaluator.add(number, boxes, scores[rows], labels[rows], codes)
