#!/usr/bin/env python3
"""Evaluation of detections at the size of the benchmarks, on synthetic objects and detections.

benchmarks/detection_evaluation.py                        LVIS: 19,809 images, 300 detections each, 1,203 classes
benchmarks/detection_evaluation.py --masks                the same with masks
benchmarks/detection_evaluation.py --images 1000          a part
benchmarks/detection_evaluation.py --references           besides, small sets against pycocotools and the LVIS API
benchmarks/detection_evaluation.py --lvis lvis_val.json   boxes and masks on real objects against the LVIS API, alone

Objects of an image: 12 draws of a class, of which a third are 300 times as frequent as the others, with one or two
objects each; 2 to 11 classes are known to be absent. A third of the detections lie near to an object, with its class or
an absent one, the others anywhere with any class; masks are rectangles. With ``--lvis``, detections are the objects of
an annotation file, moved by some pixels, a part of them with another class that is looked for in the image. Peak memory
is that of a process of its own, libraries included.
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
from pycocotools import mask as coco_mask

from declip.data.detection.run_lengths import run_lengths
from declip.evaluation.detection import DetectionEvaluator
from declip.evaluation.detection.results_file import add_results
from measure import in_new_process, peak_memory, print_table

HEIGHT, WIDTH = 480, 640
DETECTIONS = 300  # per image
KEYS = {"bbox": "bbox", "segm": "segmentation"}  # of results, by task


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


def evaluate(images: int, classes: int, federated: bool, masks: bool) -> dict:
    """Seconds to take detections and to evaluate, GiB, and the average precision."""
    rng = np.random.default_rng(0)
    weights = np.where(np.arange(classes) % 3, 1.0, 300.0)
    weights /= weights.sum()
    drawn = [draw_image(rng, number, weights, federated) for number in range(images)]
    if masks:
        for record, _ in drawn:
            for each in record["annotations"]:
                x, y, width, height = each["bbox"]
                each["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    task = "segm" if masks else "bbox"
    evaluator = DetectionEvaluator(
        [record for record, _ in drawn], [str(label) for label in range(classes)], tasks=(task,), federated=federated
    )
    before, started = peak_memory(), time.perf_counter()
    for record, (boxes, scores, labels) in drawn:
        rows = evaluator.counted(record["image_id"], scores, labels)
        codes = coco_mask.frPyObjects(boxes[rows], HEIGHT, WIDTH) if masks and len(rows) else []
        evaluator.add(record["image_id"], boxes[rows], scores[rows], labels[rows], codes)
    taken = time.perf_counter()
    results = evaluator.evaluate()[task]
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


def move_objects(records: list[dict], rng: np.random.Generator) -> list[dict]:
    """Detections as a results file has them: box and mask of every object, moved, and a third with another class."""
    found = []
    for record in records:
        height, width = record["height"], record["width"]
        known = [*{each["category_id"] for each in record["annotations"]}, *record["neg_category_ids"]]
        for each in record["annotations"]:
            mask = coco_mask.decode(run_lengths(each["segmentation"], height, width))
            down, right = rng.integers(-6, 7, 2)
            moved = np.asfortranarray(np.roll(mask, (down, right), (0, 1)))
            if not moved.any():
                continue
            code, label = coco_mask.encode(moved), rng.choice(known) if rng.random() < 1 / 3 else each["category_id"]
            shape = {"size": code["size"], "counts": code["counts"].decode("ascii")}
            found.append(
                {"image_id": record["image_id"], "category_id": int(label), "score": rng.random()}
                | {"bbox": coco_mask.toBbox(code).tolist(), "segmentation": shape}
            )
    return found


def against_lvis_api(path: str) -> None:
    """Print every number of the LVIS API on an annotation file, and the largest difference of ours."""
    import lvis

    np.float = float  # which that package uses, and NumPy dropped
    content = json.loads(Path(path).read_text())
    frequency = {category["id"]: category["frequency"] for category in content["categories"]}
    ids = {number: label for label, number in enumerate(sorted(frequency))}
    groups = {group: [ids[number] for number in sorted(ids) if frequency[number] == group] for group in "rcf"}
    objects = {image["id"]: [] for image in content["images"]}
    for each in content["annotations"]:
        objects[each["image_id"]].append({**each, "bbox_mode": 1})
    records = [{**image, "image_id": image["id"], "annotations": objects[image["id"]]} for image in content["images"]]
    found, rows = move_objects(records, np.random.default_rng(0)), []
    labelled = [
        {**record, "annotations": [{**each, "category_id": ids[each["category_id"]]} for each in record["annotations"]]}
        for record in records
    ]
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
    for task in ("bbox", "segm"):
        options = {"tasks": (task,), "category_ids": ids, "federated": True, "class_groups": groups}
        evaluator = DetectionEvaluator(labelled, [str(number) for number in sorted(ids)], **options)
        results = [{key: each[key] for key in ("image_id", "category_id", "score", KEYS[task])} for each in found]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "results.json")
            file.write_text(json.dumps(results))
            add_results(evaluator, file)
        ours = evaluator.evaluate()[task]
        with contextlib.redirect_stdout(io.StringIO()):
            reference = lvis.LVISEval(path, results, task)
            reference.run()
        theirs = [100 * reference.results[name] for name in names]
        difference = max(abs(ours[name] - value) for name, value in zip(names, theirs, strict=True) if value >= 0)
        rows.append([task, *theirs, f"{difference:.0e}"])
    print_table(
        f"{len(records)} images of {Path(path).name}, {len(found)} detections: the LVIS API's numbers",
        ["of", *names, "largest difference of ours"],
        rows,
    )


def main() -> None:
    """Print the tables, or, in a process of its own, a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=19_809)
    parser.add_argument("--masks", action="store_true", help="masks instead of boxes")
    parser.add_argument("--references", action="store_true", help="compare with pycocotools and the LVIS API")
    parser.add_argument("--lvis", metavar="PATH", help="compare on this annotation file of LVIS, and nothing else")
    parser.add_argument("--alone", nargs=4, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        images, classes, federated, masks = args.alone
        print(json.dumps(evaluate(images, classes, bool(federated), bool(masks))))
        return
    if args.lvis:
        against_lvis_api(args.lvis)
        return
    found = in_new_process(__file__, "--alone", args.images, 1203, 1, int(args.masks))
    kind = "Masks" if args.masks else "Boxes"
    print_table(
        f"{kind} of LVIS's size: {args.images:,} images, {DETECTIONS} detections each, 1203 classes",
        ["", "seconds"],
        [["taking detections", found["take"]], ["evaluating them", found["evaluate"]]],
    )
    print(f"Peak memory {found['memory']:.2f} GiB, of which {found['before']:.2f} before the first detection is taken.")
    if args.references:
        rows = []
        for name, images, classes, federated in (("LVIS API", 1000, 1203, 1), ("pycocotools", 500, 80, 0)):
            ours = in_new_process(__file__, "--alone", images, classes, federated, 0)
            seconds, precision = reference(images, classes, bool(federated))
            own = ours["take"] + ours["evaluate"]
            rows.append([name, images, classes, seconds, own, seconds / own, precision, ours["AP"]])
        headers = ["reference", "images", "classes", "its seconds", "ours", "ratio", "its AP", "ours"]
        print_table("Against the references", headers, rows)


if __name__ == "__main__":
    sys.exit(main())
