import io

import numpy as np
from PIL import Image

from declip.heatmap import Heatmap


def test_the_brightest_pixel_is_the_one_that_fits_best():
    values = np.zeros((30, 40), np.float32)
    values[7, 11] = 0.3
    picture = np.asarray(Heatmap(np.full((30, 40, 3), 90, np.uint8), values, "a red car").overlay(opacity=1))
    assert picture.shape == (30, 40, 3)
    brightness = picture.astype(int).sum(axis=2)
    assert brightness.argmax() == 7 * 40 + 11 and (brightness < brightness.max()).sum() == brightness.size - 1


def test_the_picture_is_as_large_as_the_image_up_to_a_limit():
    values = np.random.default_rng(0).random((30, 40), np.float32)
    for size, expected in [((60, 80), (80, 60)), ((1500, 3000), (2048, 1024))]:
        assert Heatmap(np.zeros((*size, 3), np.uint8), values, "a red car").overlay().size == expected


def test_equal_values_are_drawn_too():
    heatmap = Heatmap(np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), np.float32), "grass")
    assert Image.open(io.BytesIO(heatmap._repr_png_())).size == (5, 4)
