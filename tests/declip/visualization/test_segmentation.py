import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.evaluation.style import OKABE_ITO
from declip.segmentation import Segmentation as Result
from declip.visualization import segmentation, segmentation_of_dataset, segmentation_panels
from declip.visualization.segmentation import palette

NAME = "evaluation_test_images"


class Constant:
    """A segmenter that sees one class everywhere."""

    def __init__(self, index):
        self.index = index

    def set_classes(self, names):
        self.names = tuple(names)

    def segment(self, image):
        return Result(image, np.full(image.shape[:2], self.index, np.uint8), self.names)


def test_each_method_has_a_panel_beside_the_image_and_the_truth(tmp_path):
    images = [np.full((6, 8, 3), 90, np.uint8), np.zeros((5, 4, 3), np.uint8)]
    truths = [np.ones((6, 8), np.int64), np.full((5, 4), -1)]
    rows = segmentation_panels(images, {"a": Constant(0), "b": Constant(1)}, ["grass", "sky"], truths)
    for row, image, truth in zip(rows, images, truths, strict=True):
        assert list(row.panels) == ["a", "b", "ground truth"]
        np.testing.assert_array_equal(row.image, image)
        assert (row.panels["a"] == 0).all() and (row.panels["b"] == 1).all()
        np.testing.assert_array_equal(row.panels["ground truth"], truth)
    figure = segmentation(images, {"a": Constant(0)}, ["grass", "sky"])
    assert [axes.get_title() for axes in figure.axes] == ["image", "a", "", ""]
    figure.savefig(tmp_path / "x.svg")


def test_few_classes_have_colours_that_everybody_tells_apart():
    assert palette(3).tolist() == [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in OKABE_ITO[:3]]
    assert palette(20).shape == (20, 3)


def test_images_of_a_dataset_come_with_their_truth(records):
    figure = segmentation_of_dataset(NAME, {"a": Constant(2)}, ["a", "b, bee", "c", "d"], count=2)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "a", "ground truth"]
    assert len(figure.axes) == 6


@pytest.mark.parametrize("count", [0, 101])
def test_as_many_images_as_a_figure_holds(records, count):
    with pytest.raises(DataError, match=f"a figure of {count} images cannot be drawn: choose 1 to 100"):
        segmentation_of_dataset(NAME, {}, ["a"], count)
