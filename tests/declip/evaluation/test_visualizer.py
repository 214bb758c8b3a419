import numpy as np
import torch
from PIL import Image

from declip.evaluation.visualizer import OPACITY, Segmentation, SegmentationVisualizer, most_frequent, paint

NAME = "evaluation_test_images"
COLORS = np.array([[200, 0, 0], [0, 200, 0]], np.float32)


def test_paint_blends_class_colours_and_marks_borders_white():
    image = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), np.int64)
    labels[:, 3:] = 1
    painted = paint(image, labels, COLORS)
    assert painted[0, 0].tolist() == [round((1 - OPACITY) * 100 + OPACITY * c) for c in (200, 0, 0)]
    assert (painted[:, 3] == 255).all()


def test_pixels_without_class_show_the_image():
    image = np.full((3, 3, 3), 77, np.uint8)
    assert (paint(image, np.full((3, 3), -1), COLORS) == 77).all()


def test_the_legend_names_the_most_frequent_classes_first():
    panel = np.array([[1, 1, 1, 0, -1]])
    assert most_frequent([Segmentation(np.zeros((1, 5, 3), np.uint8), {"prediction": panel})]) == [1, 0]


def test_as_many_images_as_wanted_and_an_overview_are_drawn(records, tmp_path):
    visualizer = SegmentationVisualizer(NAME, tmp_path / "drawn", count=2)
    for record in records:
        visualizer.process([record], [{"sem_seg": torch.zeros(record["labels"].shape, dtype=torch.long)}])
    assert visualizer.evaluate() == {}
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["image0.png", "image1.png", "overview.png"]
    assert Image.open(tmp_path / "drawn" / "overview.png").size[0] > 300
