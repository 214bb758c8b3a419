import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.datasets import dataset_metadata
from declip.data.reading import LabelFormat
from declip.evaluation import SemSegEvaluator, compute_metrics, confusion_matrix

NAME = "evaluation_test_images"
ADE = Path(__file__).parents[4] / "shared" / "data" / "ADEChallengeData2016"


def guesses(records):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 4, record["labels"].shape) for record in records]


def evaluate(evaluator, records, predictions):
    for record, prediction in zip(records, predictions, strict=True):
        evaluator.process([record], [{"sem_seg": torch.from_numpy(prediction)}])
    return evaluator.evaluate()["sem_seg"]


def test_results_are_those_of_all_images_pixels_together(records):
    predictions = guesses(records)
    results = evaluate(SemSegEvaluator.of(NAME), records, predictions)
    total = sum(confusion_matrix(p, r["labels"], 4, 255) for p, r in zip(predictions, records, strict=True))
    expected = compute_metrics(total)
    assert results["mIoU"] == expected.mean_iou and results["pACC"] == expected.pixel_accuracy
    assert results["IoU-b, bee"] == expected.iou[1] and np.isnan(results["mIoU_v06"]) == 0
    assert results["mIoU_seen"] == expected.group_mean_iou([0, 1])


def test_scores_count_as_their_best_class(records):
    predictions = guesses(records)
    labels = evaluate(SemSegEvaluator.of(NAME), records, predictions)
    evaluator = SemSegEvaluator.of(NAME)
    for record, prediction in zip(records, predictions, strict=True):
        scores = torch.nn.functional.one_hot(torch.from_numpy(prediction), 4).permute(2, 0, 1).float()
        evaluator.process([record], [{"sem_seg": scores}])
    np.testing.assert_equal(evaluator.evaluate()["sem_seg"], labels)


def test_reset_forgets(records):
    evaluator = SemSegEvaluator.of(NAME)
    evaluate(evaluator, records, guesses(records))
    evaluator.reset()
    perfect = [np.where(record["labels"] == 255, 0, record["labels"]) for record in records]
    assert evaluate(evaluator, records, perfect)["mIoU"] == 100


def test_files_hold_the_table_and_predictions_on_request(records, tmp_path):
    folder = tmp_path / "out"
    evaluator = SemSegEvaluator.of(NAME, output_folder=folder, save_predictions=True)
    predictions = guesses(records)
    results = evaluate(evaluator, records, predictions)
    stored = json.loads((folder / "results.json").read_text())
    assert stored["mIoU"] == pytest.approx(results["mIoU"])
    rows = list(csv.DictReader((folder / "per_class.csv").open()))
    assert [row["class"] for row in rows] == ["a", "b, bee", "c", "d"] and rows[2]["groups"] == "unseen"
    assert (np.asarray(Image.open(folder / "predictions" / "image1.png")) == predictions[1]).all()


def test_a_prediction_of_another_size_is_named(records):
    with pytest.raises(DataError, match=r"prediction for .*0\.png is 5x5, its label file .*0_labels\.png 10x8"):
        SemSegEvaluator.of(NAME).process(records[:1], [{"sem_seg": torch.zeros(5, 5, dtype=torch.long)}])


def test_a_prediction_outside_the_class_list_is_named(records):
    with pytest.raises(DataError, match=r"0\.png names class 4 of 4: the model's vocabulary"):
        SemSegEvaluator.of(NAME).process(records[:1], [{"sem_seg": torch.full((8, 10), 4)}])


def test_a_label_outside_the_class_list_is_named(records):
    evaluator = SemSegEvaluator(["a", "b"], LabelFormat(2))
    with pytest.raises(DataError, match=r"0_labels\.png has label 2, but the dataset has 2 classes"):
        evaluator.process(records[:1], [{"sem_seg": torch.zeros(8, 10, dtype=torch.long)}])


SIZE = (8, 10)
NO_PREDICTIONS = {
    "floats": torch.zeros(SIZE),
    "complex": torch.zeros(SIZE, dtype=torch.complex64),
    "a batch of scores": torch.rand(1, 4, *SIZE),
    "a row": torch.zeros(80, dtype=torch.long),
    "a number": torch.tensor(3),
    "scores of fewer classes": torch.rand(3, *SIZE),
    "scores of more classes": torch.rand(5, *SIZE),
    "labels of another size": torch.zeros(10, 8, dtype=torch.long),
    "scores of another size": torch.rand(4, 10, 8),
    "negative labels": torch.full(SIZE, -1),
    "labels beyond the classes": torch.full(SIZE, 4),
    "labels far beyond the classes": torch.full(SIZE, 2**40),
    "the ignore label": torch.full(SIZE, 255, dtype=torch.uint8),
    "no pixel": torch.zeros(0, 10, dtype=torch.long),
}


@pytest.mark.parametrize("kind", NO_PREDICTIONS)
def test_what_is_no_prediction_is_refused_with_its_image(records, kind, tmp_path):
    evaluator = SemSegEvaluator.of(NAME, output_folder=tmp_path / "out", save_predictions=True)
    with pytest.raises(DataError, match=r"prediction for .*0\.png"):
        evaluator.process(records[:1], [{"sem_seg": NO_PREDICTIONS[kind]}])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integers_count_alike(records, dtype):
    evaluator = SemSegEvaluator.of(NAME)
    evaluator.process(records[:1], [{"sem_seg": torch.full(SIZE, 2, dtype=dtype)}])
    share = (records[0]["labels"] == 2).sum() / (records[0]["labels"] != 255).sum()
    assert evaluator.evaluate()["sem_seg"]["pACC"] == pytest.approx(100 * share)


def test_an_evaluation_without_images_is_refused(tmp_path):
    evaluator = SemSegEvaluator(["a", "b"], LabelFormat(2), output_folder=tmp_path / "out")
    with pytest.raises(DataError, match="no image has been evaluated"):
        evaluator.evaluate()
    assert not (tmp_path / "out").exists()


def test_more_classes_than_memory_are_refused():
    with pytest.raises(DataError, match="100000 classes are too many"):
        SemSegEvaluator([str(index) for index in range(100_000)], LabelFormat(100_000, ignore_label=200_000))


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_groups_of_classes_that_are_none_are_refused(index):
    with pytest.raises(DataError, match="class group 'seen' names classes beyond the 2"):
        SemSegEvaluator(["a", "b"], LabelFormat(2), class_groups={"seen": [0, index]})


def test_predictions_of_files_of_one_name_do_not_overwrite_each_other(records, tmp_path):
    evaluator = SemSegEvaluator(["a", "b", "c", "d"], LabelFormat(4), output_folder=tmp_path, save_predictions=True)
    samples = [{**records[0], "file_name": f"/{folder}/street.jpg"} for folder in ("berlin", "paris")]
    prediction = [{"sem_seg": torch.zeros(SIZE, dtype=torch.long)}]
    for sample in samples:
        del sample["image_id"]
    evaluator.process(samples[:1], prediction)
    with pytest.raises(DataError, match=r"/berlin/street\.jpg and /paris/street\.jpg would both be .*street\.png"):
        evaluator.process(samples[1:], prediction)
    for sample, image_id in zip(samples, ("berlin/street", "paris/street"), strict=True):
        evaluator.process([{**sample, "image_id": image_id}], prediction)
    evaluator.evaluate()
    assert len(list((tmp_path / "predictions").rglob("*.png"))) == 3


def test_a_dataset_whose_predictions_would_overwrite_each_other_is_refused_at_the_start(records, tmp_path):
    records[1]["image_id"] = records[0]["image_id"]
    with pytest.raises(DataError, match=r"0\.png and .*1\.png would both be .*image0\.png"):
        SemSegEvaluator.of(NAME, output_folder=tmp_path, save_predictions=True)
    SemSegEvaluator.of(NAME, output_folder=tmp_path)


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_no_prediction_leaves_its_folder(records, image_id, tmp_path):
    evaluator = SemSegEvaluator(["a", "b", "c", "d"], LabelFormat(4), output_folder=tmp_path, save_predictions=True)
    with pytest.raises(DataError, match="is no name for a file"):
        evaluator.process([{**records[0], "image_id": image_id}], [{"sem_seg": torch.zeros(SIZE, dtype=torch.long)}])


@pytest.mark.skipif(not ADE.is_dir(), reason="the sample of real ADE20K images is not here")
def test_real_images_corrupted_in_a_known_way_give_the_independently_computed_figures():
    """Every fifth row of the prediction is moved up by one class; figures by plain numpy."""
    metadata = dataset_metadata("ade20k_150_test_sem_seg")
    evaluator = SemSegEvaluator(metadata.stuff_classes, LabelFormat.of(metadata))
    files = sorted(ADE.glob("annotations/validation/*.png")) or sorted(ADE.rglob("*.png"))
    assert files
    truths, guessed = [], []
    for file in files:
        raw = np.asarray(Image.open(file)).astype(np.int64)
        prediction = np.maximum(raw - 1, 0)
        prediction[::5] = (prediction[::5] + 1) % 150
        record = {"file_name": str(file), "sem_seg_file_name": str(file)}
        evaluator.process([record], [{"sem_seg": torch.from_numpy(prediction)}])
        truths.append(raw[raw > 0] - 1)
        guessed.append(prediction[raw > 0])
    truth, guess = np.concatenate(truths), np.concatenate(guessed)
    results = evaluator.evaluate()["sem_seg"]
    assert results["pACC"] == pytest.approx(100 * np.mean(truth == guess), abs=1e-9)
    ious = [100 * np.sum((truth == k) & (guess == k)) / np.sum((truth == k) | (guess == k)) for k in np.unique(truth)]
    assert results["mIoU"] == pytest.approx(np.mean(ious), abs=1e-9)
