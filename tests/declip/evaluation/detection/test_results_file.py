import json
import re

import pytest

from d2host.engine.errors import DataError
from declip.evaluation.detection import DetectionEvaluator
from declip.evaluation.detection.results_file import add_results
from tests.coco_real import coco_real_det

IDS = {17: 0, 18: 1}
BOX = [10, 10, 30, 20]


def records():
    annotations = [{"bbox": BOX, "bbox_mode": 1, "category_id": 1}]
    return [{"file_name": "a.jpg", "image_id": 7, "height": 100, "width": 120, "annotations": annotations}]


def evaluator(**options):
    return DetectionEvaluator(records(), ["cat", "dog"], category_ids=IDS, **options)


def test_detections_of_a_file_are_evaluated(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 7, "category_id": 18, "score": 0.5, "bbox": BOX}]))
    chosen = evaluator()
    add_results(chosen, path)
    assert chosen.evaluate()["bbox"]["AP"] == pytest.approx(100)


def test_a_file_without_detections_found_nothing(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("[]")
    chosen = evaluator()
    add_results(chosen, path)
    assert chosen.evaluate()["bbox"]["AP"] == 0


RIGHT = {"image_id": 7, "category_id": 18, "score": 0.5, "bbox": BOX}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{**RIGHT, "category_id": 1}], "it is of category 1, which the dataset lacks: its vocabulary is another"),
        ([RIGHT, {**RIGHT, "image_id": 8}], "detection 1: it is of image 8, which the dataset lacks"),
        ([{**RIGHT, "score": "high"}], "'score' is 'high', not a number"),
        ([{**RIGHT, "bbox": BOX[:3]}], r"'bbox' is \[10, 10, 30\], not a list of four numbers"),
        ([{key: value for key, value in RIGHT.items() if key != "bbox"}], "it has no 'bbox'"),
        ([[]], "stands where an object with image_id"),
        ({"annotations": []}, "holds a dict, not a list of detections"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        add_results(evaluator(), path)


def test_masks_are_asked_for_where_they_are_compared(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([RIGHT]))
    with pytest.raises(DataError, match="it has no 'segmentation'"):
        add_results(evaluator(tasks=("segm",)), path)


def test_the_program_prints_a_table(tmp_path, run_here, repository):
    name = coco_real_det()
    chosen = DetectionEvaluator.of(name)
    ids = {label: number for number, label in chosen.category_ids.items()}
    results = [
        {"image_id": record["image_id"], "category_id": ids[each["category_id"]], "score": 1, "bbox": each["bbox"]}
        for record in chosen.records
        for each in record["annotations"]
        if not each["iscrowd"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    done = run_here(
        repository / "tools/eval_detections.py",
        *("--dataset", name, "--results", tmp_path / "results.json", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0 and re.search(r"AP50 +\| +100\.00", done.stdout), done.stdout + done.stderr
    assert (tmp_path / "out/per_class_bbox.csv").is_file()


POLYGON = [[10, 10, 40, 10, 40, 30, 10, 30]]


def test_masks_may_be_polygons_and_have_to_be_of_their_image(tmp_path):
    path, annotation = tmp_path / "results.json", {**records()[0]["annotations"][0], "segmentation": POLYGON}
    masked = [{**records()[0], "annotations": [annotation]}]
    chosen = DetectionEvaluator(masked, ["cat", "dog"], category_ids=IDS, tasks=("segm",))
    path.write_text(json.dumps([{**RIGHT, "segmentation": POLYGON}]))
    add_results(chosen, path)
    assert chosen.evaluate()["segm"]["AP"] == pytest.approx(100)
    path.write_text(json.dumps([{**RIGHT, "segmentation": {"size": [4, 6], "counts": [24]}}]))
    with pytest.raises(DataError, match=r"its mask is of \[4, 6\] pixels, its image of \[100, 120\]"):
        add_results(chosen, path)
