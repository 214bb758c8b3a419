#!/usr/bin/env python3
"""Evaluation of detections at the size of the benchmarks, on synthetic objects and detections.

benchmarks/detection_evaluation.py                        LVIS: 19,809 images, 300 detections each, 1,203 classes
benchmarks/detection_evaluation.py --images 1000          a part
benchmarks/detection_evaluation.py --references           besides, small sets against pycocotools and the LVIS API

Objects of an image: 12 draws of a class, of which a third are 300 times as frequent as the others, with one or two
objects each; 2 to 11 classes are known to be absent. A third of the detections lie near to an object, with its class or
an absent one, the others anywhere with any class. Peak memory is that of a process of its own, libraries included.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from declip.evaluation.detection import DetectionEvaluator
from measure import in_new_process, peak_memory, print_table

HEIGHT, WIDTH = 480, 640
DETECTIONS = 300  # per image


def draw_image(rng: np.random.Generator, number: int, weights: np.ndarray, federated: bool) -> tuple[dict, tuple]:
    """A dataset dict, and boxes (left, top, width, height), scores and labels of its detections."""
    classes = len(weights)
    present = np.unique(rng.choice(classes, 12, p=weights))
    absent = np.setdiff1d(rng.choice(classes, rng.integers(2, 12), replace=False), present)
    labels = np.repeat(present, rng.integers(1, 3, len(present)))
    boxes = draw_boxes(rng, len(labels))
    record = {"file_name": f"{number}.jpg", "image_id": number, "height": HEIGHT, "width": WIDTH}
    columns = zip(labels.tolist(), boxes.tolist(), strict=True)
    record["annotations"] = [{"category_id": label, "bbox": box, "bbox_mode": 1} for label, box in columns]
    if federated:
        record["neg_category_ids"] = absent.tolist()
        record["not_exhaustive_category_ids"] = present[: rng.integers(3)].tolist()
    near = DETECTIONS // 3
    chosen = rng.integers(len(labels), size=near)
    moved = boxes[chosen] * (1 + 0.1 * rng.standard_normal((near, 4)))
    guessed = np.where(rng.random(near) < 0.3, rng.choice(absent, near), labels[chosen])
    others = DETECTIONS - near
    found = np.concatenate([moved, draw_boxes(rng, others)]).clip(1)
    return record, (found, rng.random(DETECTIONS), np.concatenate([guessed, rng.integers(classes, size=others)]))


def draw_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Boxes of all sizes, left, top, width, height, within the image."""
    corner = rng.random((number, 2)) * [WIDTH - 40, HEIGHT - 40]
    sides = np.minimum(np.exp(1 + 4.5 * rng.random((number, 2))), [WIDTH, HEIGHT] - corner)
    return np.round(np.concatenate([corner, sides], axis=1), 2)


def evaluate(images: int, classes: int, federated: bool) -> dict:
    """Seconds to take detections and to evaluate, GiB, and the average precision."""
    rng = np.random.default_rng(0)
    weights = np.where(np.arange(classes) % 3, 1.0, 300.0)
    weights /= weights.sum()
    drawn = [draw_image(rng, number, weights, federated) for number in range(images)]
    evaluator = DetectionEvaluator(
        [record for record, _ in drawn], [str(label) for label in range(classes)], federated=federated
    )
    before, started = peak_memory(), time.perf_counter()
    for record, (boxes, scores, labels) in drawn:
        rows = evaluator.counted(record["image_id"], scores, labels)
        evaluator.add(record["image_id"], boxes[rows], scores[rows], labels[rows], [])
    taken = time.perf_counter()
    results = evaluator.evaluate()["bbox"]
    done = time.perf_counter()
    return {"take": taken - started, "evaluate": done - taken, "before": before, "memory": peak_memory(), **results}


def reference(images: int, classes: int, federated: bool) -> tuple[float, float]:
    """Seconds of pycocotools or the LVIS API for the same, and its average precision."""
    rng = np.random.default_rng(0)
    weights = np.where(np.arange(classes) % 3, 1.0, 300.0)
    weights /= weights.sum()
    drawn = [draw_image(rng, number, weights, federated) for number in range(images)]
    records = [{**record, "id": record["image_id"]} for record, _ in drawn]
    objects = [
        {**each, "image_id": record["id"], "iscrowd": 0, "area": each["bbox"][2] * each["bbox"][3]}
        | {"segmentation": [[0, 0, 1, 0, 1, 1]]}
        for record in records
        for each in record["annotations"]
    ]
    objects = [{**each, "id": number} for number, each in enumerate(objects, start=1)]
    found = [
        {"image_id": record["image_id"], "category_id": label, "score": score, "bbox": box}
        for record, (boxes, scores, labels) in drawn
        for label, score, box in zip(labels.tolist(), scores.tolist(), boxes.tolist(), strict=True)
    ]
    categories = [{"id": label, "name": str(label), "frequency": "f"} for label in range(classes)]
    content = {"images": records, "annotations": objects, "categories": categories, "info": {}}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        truth = Path(folder, "truth.json")
        truth.write_text(json.dumps(content))
        started = time.perf_counter()
        if federated:
            import lvis

            np.float = float  # which that package uses, and NumPy dropped
            evaluation = lvis.LVISEval(str(truth), found, "bbox")
            evaluation.run()
            return time.perf_counter() - started, 100 * evaluation.results["AP"]
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        loaded = COCO(str(truth))
        evaluation = COCOeval(loaded, loaded.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return time.perf_counter() - started, 100 * evaluation.stats[0]


def main() -> None:
    """Print the tables, or, in a process of its own, a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=19_809)
    parser.add_argument("--references", action="store_true", help="compare with pycocotools and the LVIS API")
    parser.add_argument("--alone", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        images, classes, federated = args.alone
        print(json.dumps(evaluate(images, classes, bool(federated))))
        return
    found = in_new_process(__file__, "--alone", args.images, 1203, 1)
    print_table(
        f"Boxes of LVIS's size: {args.images:,} images, {DETECTIONS} detections each, 1203 classes",
        ["", "seconds"],
        [["taking detections", found["take"]], ["evaluating them", found["evaluate"]]],
    )
    print(f"Peak memory {found['memory']:.2f} GiB, of which {found['before']:.2f} before the first detection is taken.")
    if args.references:
        rows = []
        for name, images, classes, federated in (("LVIS API", 1000, 1203, 1), ("pycocotools", 500, 80, 0)):
            ours = in_new_process(__file__, "--alone", images, classes, federated)
            seconds, precision = reference(images, classes, bool(federated))
            own = ours["take"] + ours["evaluate"]
            rows.append([name, images, classes, seconds, own, seconds / own, precision, ours["AP"]])
        headers = ["reference", "images", "classes", "its seconds", "ours", "ratio", "its AP", "ours"]
        print_table("Against the references", headers, rows)


if __name__ == "__main__":
    sys.exit(main())
