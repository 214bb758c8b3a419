"""Average precision as COCO and LVIS define it, a class at a time.

A class is evaluated on the images that say something about it: those with an object or a detection of it. The others
change nothing, and of LVIS's 24 million pairs of an image and a class they are all but some hundred thousand. Matching
and accumulation are those of the library faster-coco-eval, whose numbers equal pycocotools' and the LVIS API's.

Shape legend
    T  10 thresholds of IoU, 0.50 to 0.95        R  101 levels of recall        A  areas: all, small, medium, large
    K  classes

Source: Lin et al. 2014 (https://cocodataset.org/#detection-eval); LVIS: Gupta et al. 2019, Sec. 2 (federated datasets).
"""

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from declip.evaluation.detection.columns import Columns

THRESHOLDS, RECALLS, AREAS = 10, 101, ("", "s", "m", "l")


def precision_of_classes(
    objects: Columns,
    detections: Columns,
    sizes: Sequence[tuple[int, int]],
    num_classes: int,
    *,
    most_detections: int,
    not_exhaustive: Sequence[Set[int]] | None = None,
    masks: bool = False,
) -> np.ndarray:
    """Precision of every class at every threshold, recall and area; -1 where there is no object.

    Args:
        objects, detections: of all images, by image; the area of detections is that of what is compared.
        sizes: (H, W) of every image.
        num_classes: K.
        most_detections: of an image and class that count, those of the highest scores.
        not_exhaustive: of every image, the classes of which not all objects are annotated, so that what matches none is
            no mistake; None: the dataset is not federated, and has no such classes.
        masks: whether masks are compared, or boxes.

    Returns:
        T×R×K×A float64.
    """
    precision = np.full((THRESHOLDS, RECALLS, num_classes, len(AREAS)), -1.0)
    if len(detections):
        own = map(coco_mask.area, detections.mask)  # one by one: the library cannot count more than 255 at once
        area = np.fromiter(own, np.float64) if masks else detections.box[:, 2] * detections.box[:, 3]
        detections = replace(detections, area=area)
    rows = zip(objects.by_class(num_classes), detections.by_class(num_classes), strict=True)
    for label, (true, found) in enumerate(rows):
        if not len(true):
            continue
        images = []
        for image in np.union1d(objects.image[true], detections.image[found]).tolist():
            height, width = sizes[image]
            lacking = [1] if not_exhaustive is not None and label in not_exhaustive[image] else []
            images.append({"id": image, "height": height, "width": width, "neg_category_ids": [1]})
            images[-1]["not_exhaustive_category_ids"] = lacking
        tables = {"images": images, "categories": [{"id": 1, "name": "class", "frequency": "f"}]}
        truth = COCO({**tables, "annotations": objects.annotations(true)})
        guesses = COCO({**tables, "annotations": detections.annotations(found)})
        evaluation = COCOeval_faster(
            truth,
            guesses,
            "segm" if masks else "bbox",
            print_function=_say_nothing,
            lvis_style=not_exhaustive is not None,
        )
        evaluation.params.maxDets = [most_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        precision[:, :, label] = evaluation.eval["precision"][:, :, 0, :, 0]
    return precision


def average_precision(precision: np.ndarray) -> float:
    """Mean over all that has objects, in percent; NaN where nothing has.

    >>> average_precision(np.array([1.0, 0.5, -1.0]))
    75.0
    """
    valid = precision[precision > -1]
    return float(100 * valid.mean()) if valid.size else float("nan")


def _say_nothing(*message: object) -> None:
    pass
