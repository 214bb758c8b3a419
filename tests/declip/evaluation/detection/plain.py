"""Average precision said as plainly as possible, in float64: COCO's rules, and LVIS's."""

import numpy as np

THRESHOLDS, RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
RANGES = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}


def box_iou(detection, thing, crowd):
    """Of two boxes x0, y0, x1, y1; of a crowd, the share of the detection that lies in it."""
    sides = np.minimum(detection[2:], thing[2:]) - np.maximum(detection[:2], thing[:2])
    inside = np.prod(sides) if (sides > 0).all() else 0.0
    areas = [np.prod(box[2:] - box[:2]) for box in (detection, thing)]
    return inside / (areas[0] if crowd else sum(areas) - inside)


def mask_iou(detection, thing, crowd):
    """Of two masks; of a crowd, the share of the detection that lies in it."""
    return (detection & thing).sum() / (detection.sum() if crowd else (detection | thing).sum())


def matches(things, found, overlap, threshold, limits, lacking):
    """Of detections of one image and class, best first: their scores, whether each is right, whether it is ignored."""
    ignored = [each["crowd"] or not limits[0] <= each["area"] <= limits[1] for each in things]
    order = sorted(range(len(things)), key=lambda index: ignored[index])  # those that count come first
    free, result = set(order), []
    for detection in found:
        best, best_iou = None, min(threshold, 1 - 1e-10)
        for index in order:
            if index not in free and not things[index]["crowd"]:
                continue
            if best is not None and not ignored[best] and ignored[index]:
                break
            iou = overlap(detection["shape"], things[index]["shape"], things[index]["crowd"])
            if iou >= best_iou:
                best, best_iou = index, iou
        free.discard(best)
        outside = not limits[0] <= detection["area"] <= limits[1]
        ignore = ignored[best] if best is not None else outside or lacking
        result.append((detection["score"], best is not None, ignore))
    return result, sum(not each for each in ignored)


def average(images, overlap, threshold, limits, most):
    """Average precision of one class, 0 to 1; None where nothing is there to find.

    Args:
        images: of each, ``things``, ``found`` and whether the class is ``lacking`` annotations.
        most: detections of an image that count.
    """
    rows, number = [], 0
    for image in images:
        found = sorted(image["found"], key=lambda each: -each["score"])[:most]
        part, counted = matches(image["things"], found, overlap, threshold, limits, image["lacking"])
        rows, number = rows + part, number + counted
    if not number:
        return None
    rows = [row for row in sorted(rows, key=lambda row: -row[0]) if not row[2]]
    right = np.cumsum([row[1] for row in rows])
    recall, precision = right / number, right / np.arange(1, len(rows) + 1)
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in RECALLS]))


def mean_average(classes, overlap, most, thresholds=THRESHOLDS, area=""):
    """Mean over classes and thresholds, in percent."""
    values = [average(images, overlap, threshold, RANGES[area], most) for images in classes for threshold in thresholds]
    values = [value for value in values if value is not None]
    return 100 * float(np.mean(values)) if values else float("nan")
