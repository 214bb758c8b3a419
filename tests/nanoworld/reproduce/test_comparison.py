import numpy as np
from PIL import Image

from declip.data.datasets import dataset_records
from declip.evaluation.sem_seg_evaluator import prediction_file
from nanoworld.reproduce import compare_predictions


def test_each_image_is_shown_with_everybodys_prediction_and_the_truth(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in ("one", "two"):
        for sample in dataset_records("nano_val")[:2]:
            path = prediction_file(tmp_path / name, sample)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((128, 128), np.uint8)).save(path)
    figure = compare_predictions("nano_val", {name: tmp_path / name for name in ("one", "two")}, count=2)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["image", "one", "two", "ground truth"]
    assert len(figure.axes) == 8
