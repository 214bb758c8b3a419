import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.visualization import dataset
from declip.visualization.dataset import labelled_images

NAME = "evaluation_test_images"


def test_images_are_spread_over_the_dataset_and_ignored_pixels_have_no_label(records):
    found = list(labelled_images(NAME, 2))
    assert [image.shape[:2] for image, _ in found] == [records[0]["labels"].shape, records[2]["labels"].shape]
    for (_, labels), record in zip(found, (records[0], records[2]), strict=True):
        np.testing.assert_array_equal(labels, np.where(record["labels"] == 255, -1, record["labels"]))


def test_a_dataset_is_drawn_with_labels_beside_images(records, tmp_path):
    figure = dataset(NAME, count=9)
    assert len(figure.axes) == 6 and figure.axes[1].get_title() == "labels"
    figure.savefig(tmp_path / "x.png")


def test_a_dataset_that_is_not_there_is_named():
    with pytest.raises(DataError, match="dataset 'ade' is not registered"):
        dataset("ade")
