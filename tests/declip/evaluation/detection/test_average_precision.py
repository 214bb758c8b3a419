"""Average precision: that of a plain statement of its rules, of pycocotools, and of the LVIS API."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from declip.evaluation.detection import DetectionEvaluator
from tests.declip.evaluation.detection.plain import box_iou, mask_iou, mean_average

NAMES = ["cat", "dog", "cup"]
IDS = {1: 0, 2: 1, 3: 2}


def evaluated(records, outputs, **options):
    evaluator = DetectionEvaluator(records, NAMES, tasks=("bbox", "segm"), category_ids=IDS, **options)
    evaluator.process(records, outputs)
    return evaluator.evaluate()


def by_class(records, outputs, task, federated):
    """What the plain statement takes: of every class the images that count, with what is there and what was found."""

    def shape(annotation):
        if task == "segm":
            return coco_mask.decode(annotation["segmentation"]).astype(bool)
        corner, sides = np.array(annotation["bbox"][:2]), np.array(annotation["bbox"][2:])
        return np.concatenate([corner, corner + sides])

    classes = []
    for label in range(len(NAMES)):
        images = []
        for record, output in zip(records, outputs, strict=True):
            things = [each for each in record["annotations"] if each["category_id"] == label]
            if federated and not things and label + 1 not in record["neg_category_ids"]:
                continue
            found = output["instances"]
            rows = (found.pred_classes == label).nonzero().flatten().tolist()
            shapes = found.pred_masks.numpy() if task == "segm" else found.pred_boxes.tensor.double().numpy()
            areas = shapes.sum((1, 2)) if task == "segm" else np.prod(shapes[:, 2:] - shapes[:, :2], axis=1)
            images.append(
                {
                    "things": [
                        {"shape": shape(each), "crowd": bool(each["iscrowd"]), "area": each["area"]} for each in things
                    ],
                    "found": [
                        {"shape": shapes[row], "score": float(found.scores[row]), "area": areas[row]} for row in rows
                    ],
                    "lacking": federated and label + 1 in record["not_exhaustive_category_ids"],
                }
            )
        classes.append(images)
    return classes


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_its_rules_say(scenes, seed, federated):
    records, outputs = scenes(np.random.default_rng(seed), federated=federated)
    results = evaluated(records, outputs, federated=federated)
    for task, overlap in (("bbox", box_iou), ("segm", mask_iou)):
        classes = by_class(records, outputs, task, federated)
        expected = {"AP": mean_average(classes, overlap, 100)}
        expected |= {f"AP{area}": mean_average(classes, overlap, 100, area=area) for area in "sml"}
        expected |= {f"AP{100 * at:.0f}": mean_average(classes, overlap, 100, [at]) for at in (0.5, 0.75)}
        found = {name: results[task][name] for name in expected}
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_pycocotools(scenes, seed, tmp_path, capsys):
    records, outputs = scenes(np.random.default_rng(seed))
    results = evaluated(records, outputs)
    for task in ("bbox", "segm"):
        truth, found = coco_files(records, outputs, task, tmp_path)
        reference = COCOeval(COCO(str(truth)), COCO(str(truth)).loadRes(json.loads(found.read_text())), task)
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
        stats = dict(zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), 100 * reference.stats[:6], strict=True))
        stats = {name: value if value >= 0 else float("nan") for name, value in stats.items()}
        assert {name: results[task][name] for name in stats} == pytest.approx(stats, abs=1e-9, nan_ok=True)


def test_masks_of_more_detections_than_a_byte_counts_are_evaluated(scenes):
    records, outputs = scenes(np.random.default_rng(0))
    rows = [torch.arange(len(output["instances"])).repeat(40) for output in outputs]
    many = [{"instances": output["instances"][each]} for output, each in zip(outputs, rows, strict=True)]
    assert sum(len(output["instances"]) for output in many) > 255
    assert 0 < evaluated(records, many)["segm"]["AP50"] <= evaluated(records, outputs)["segm"]["AP50"]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_the_lvis_api(scenes, seed, tmp_path, monkeypatch):
    lvis = pytest.importorskip("lvis", reason="package lvis, the reference, is not installed")
    monkeypatch.setattr(np, "float", float, raising=False)  # which it uses, and NumPy dropped in 1.24
    records, outputs = scenes(np.random.default_rng(seed), images=12, federated=True)
    groups = {"r": [0], "c": [1], "f": [2]}
    results = evaluated(records, outputs, federated=True, class_groups=groups)
    for task in ("bbox", "segm"):
        truth, found = coco_files(records, outputs, task, tmp_path)
        reference = lvis.LVISEval(str(truth), str(found), task)
        reference.run()
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
        values = {name: 100 * reference.results[name] for name in names}
        values = {name: value if value >= 0 else float("nan") for name, value in values.items()}
        assert {name: results[task][name] for name in names} == pytest.approx(values, abs=1e-9, nan_ok=True)


def coco_files(records, outputs, task, folder):
    """An annotation file and a results file, as both references read them; with a box, its area would be a mask's."""

    def text(mask):
        return {"size": list(mask["size"]), "counts": mask["counts"].decode()}

    images = [{**record, "id": record["image_id"], "annotations": None} for record in records]
    annotations = [
        {**each, "image_id": record["image_id"], "category_id": each["category_id"] + 1}
        | {"segmentation": text(each["segmentation"])}
        for record in records
        for each in record["annotations"]
    ]
    annotations = [{**each, "id": number} for number, each in enumerate(annotations, start=1)]
    categories = [{"id": number, "name": NAMES[number - 1], "frequency": "rcf"[number - 1]} for number in IDS]
    results = []
    for record, output in zip(records, outputs, strict=True):
        found = output["instances"]
        for row in range(len(found)):
            x0, y0, x1, y1 = found.pred_boxes.tensor[row].tolist()
            mask = coco_mask.encode(np.asfortranarray(found.pred_masks[row].numpy(), dtype=np.uint8))
            shape = {"segmentation": text(mask)} if task == "segm" else {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            label, score = int(found.pred_classes[row]), float(found.scores[row])
            results.append({"image_id": record["image_id"], "category_id": label + 1, "score": score, **shape})
    content = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "found.json"
