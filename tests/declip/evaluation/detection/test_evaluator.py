import csv
import json
import math

import numpy as np
import pytest
import torch

from d2host import Boxes, Instances
from d2host.engine.distributed import launch
from d2host.engine.errors import CheckpointError, DataError
from declip.evaluation.detection import DetectionEvaluator
from declip.evaluation.results import finite
from tests.coco_real import coco_real_det
from tests.declip.evaluation.detection import ranks
from tests.declip.evaluation.detection.ranks import perfect
from tests.running import several_processes

NAMES = ["cat", "dog", "cup"]


def records(images=2):
    boxes = ([10, 10, 30, 20], [50, 40, 40, 40], [5, 60, 12, 9])
    annotations = [
        {"bbox": box, "bbox_mode": 1, "category_id": label, "area": box[2] * box[3]} for label, box in enumerate(boxes)
    ]
    return [
        {"file_name": f"{number}.jpg", "image_id": number, "height": 100, "width": 120, "annotations": annotations}
        for number in range(images)
    ]


def without(outputs, label):
    """The same detections but for those of a class."""
    return [{"instances": each["instances"][each["instances"].pred_classes != label]} for each in outputs]


def test_perfect_detections_give_100_everywhere():
    evaluator = DetectionEvaluator(records(), NAMES, class_groups={"novel": [2], "base": [0, 1]})
    evaluator.process(records(), perfect(records()))
    results = evaluator.evaluate()["bbox"]
    assert {name: value for name, value in results.items() if not math.isnan(value)} == dict.fromkeys(
        [name for name in results if name != "APl"], pytest.approx(100)
    )


def test_novel_classes_that_are_not_found_change_only_novel_and_all():
    evaluator = DetectionEvaluator(records(), NAMES, class_groups={"novel": [2], "base": [0, 1]})
    evaluator.process(records(), without(perfect(records()), 2))
    results = evaluator.evaluate()["bbox"]
    assert results["AP50_base"] == pytest.approx(100) and results["AP50_novel"] == 0
    assert results["AP50"] == pytest.approx(200 / 3)
    assert [results[f"AP50-{name}"] for name in NAMES] == [pytest.approx(100), pytest.approx(100), 0]


def test_a_federated_dataset_counts_only_classes_that_an_image_was_searched_for():
    """A dog that nobody looked for is no mistake; one that is known not to be there is."""
    scenes = [
        {**each, "annotations": each["annotations"][:1], "not_exhaustive_category_ids": []} for each in records(3)
    ]
    scenes[0]["annotations"] = records()[0]["annotations"][:2]  # a dog is in the first image
    for scene, lacking in zip(scenes, ([], [], [1]), strict=True):
        scene["neg_category_ids"] = lacking
    found = perfect(records(3))  # cats, dogs and cups everywhere
    for output, score in zip(found, (0.5, 0.9, 0.4), strict=True):
        output["instances"].scores[:] = score
    evaluator = DetectionEvaluator(scenes, NAMES, federated=True, class_groups={"r": [1], "f": [0]})
    evaluator.process(scenes, found)
    assert evaluator.evaluate()["bbox"]["APr"] == pytest.approx(100)  # the second image's is dropped, the third's last
    found[2]["instances"].scores[:] = 0.8
    evaluator.reset()
    evaluator.process(scenes, found)
    assert evaluator.evaluate()["bbox"]["APr"] == pytest.approx(50)


def test_of_an_image_300_detections_count_on_a_federated_dataset():
    (scene,) = records(1)
    scene |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    right = perfect([scene])[0]["instances"]
    others = Instances((100, 120))
    others.pred_boxes = Boxes(torch.tensor([[0.0, 0, 5, 5]]).repeat(300, 1))
    others.scores, others.pred_classes = torch.full((300,), 0.9), torch.ones(300, dtype=torch.long)
    right.scores[:] = 0.5
    evaluator = DetectionEvaluator([scene], NAMES, federated=True)
    evaluator.process([scene], [{"instances": Instances.cat([right, others])}])
    assert evaluator.evaluate()["bbox"]["AP"] == 0


@several_processes
def test_several_processes_give_what_one_gives(tmp_path):
    launch(ranks.evaluate_share, 2, (tmp_path,))
    evaluator = DetectionEvaluator(ranks.records(), ["cat", "dog"])
    evaluator.process(ranks.records(), perfect(ranks.records()))
    assert json.loads((tmp_path / "results.json").read_text()) == finite(evaluator.evaluate())


def test_tables_of_classes_and_of_everything_are_left_in_the_folder(tmp_path):
    evaluator = DetectionEvaluator(records(), NAMES, class_groups={"novel": [2]}, output_folder=tmp_path)
    evaluator.process(records(), perfect(records()))
    results = evaluator.evaluate()
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["APl"] is None  # there is none
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["AP"] == results["bbox"]["AP"]
    with open(tmp_path / "per_class_bbox.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[2] == {"class": "cup", "AP": "100.0", "AP50": "100.0", "objects": "2", "groups": "novel"}


def broken(kind):
    (output,) = perfect(records(1))
    found = output["instances"]
    match kind:
        case "a class too many":
            found.pred_classes[1] = 3
        case "a score that is none":
            found.scores[0] = float("nan")
        case "a box that is none":
            found.pred_boxes.tensor[2, 3] = float("inf")
    return [output]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("a class too many", DataError, "image 0 name class 3 of 3: their vocabulary is not the dataset's"),
        ("a score that is none", CheckpointError, "the scores of the detections of image 0"),
        ("a box that is none", CheckpointError, "the boxes of the detections of image 0"),
    ],
)
def test_what_is_no_detection_is_refused_with_its_image(kind, error, words):
    with pytest.raises(error, match=words):
        DetectionEvaluator(records(1), NAMES).process(records(1), broken(kind))


def test_images_that_are_not_the_datasets_or_left_out_or_twice_there_are_refused():
    evaluator = DetectionEvaluator(records(2), NAMES)
    with pytest.raises(DataError, match="image 2, which the dataset lacks"):
        evaluator.process(records(3)[2:], perfect(records(1)))
    evaluator.process(records(1), perfect(records(1)))
    with pytest.raises(DataError, match="1 of 2 images were not evaluated, among them 1"):
        evaluator.evaluate()
    evaluator.process(records(1), perfect(records(1)))
    with pytest.raises(DataError, match="image 0 was evaluated twice"):
        evaluator.evaluate()
    with pytest.raises(DataError, match="two images have image_id 0"):
        DetectionEvaluator(records(1) * 2, NAMES)


def test_masks_that_are_not_there_are_asked_for():
    evaluator = DetectionEvaluator(records(1), NAMES, tasks=("segm",))
    with pytest.raises(DataError, match="image 0 have no masks: evaluate boxes alone"):
        evaluator.process(records(1), perfect(records(1)))
    (output,) = perfect(records(1))
    output["instances"].pred_masks = torch.zeros(3, 100, 120, dtype=torch.bool)
    evaluator.process(records(1), [output])
    with pytest.raises(DataError, match="an object of the dataset has no 'segmentation'"):
        evaluator.evaluate()


def test_the_photographs_own_boxes_and_masks_are_found_and_moved_ones_are_not():
    evaluator = DetectionEvaluator.of(coco_real_det(("umbrella", "dog", "cup")), tasks=("bbox", "segm"))
    outputs = perfect(evaluator.records, masks=True)
    evaluator.process(evaluator.records, outputs)
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == results["segm"]["AP"] == results["segm"]["AP50_novel"] == pytest.approx(100)
    for output in outputs:
        output["instances"].pred_boxes.tensor += 200
    evaluator.reset()
    evaluator.process(evaluator.records, outputs)
    assert evaluator.evaluate()["bbox"]["AP50"] < 5 and np.isfinite(results["bbox"]["AP"])
