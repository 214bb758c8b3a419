"""Windows of large-scale jitter against a plain reference: scale everything, then cut, then mirror."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from declip.data.detection.augmentation import bounding_box, draw_window

SOURCE = (60, 90)


def windows(count=40, side=64):
    """Windows of all kinds: smaller than the square, larger, mirrored or not."""
    return [draw_window(SOURCE, side, (0.1, 2.0), True, np.random.default_rng(seed)) for seed in range(count)]


def cut(window, array):
    """The window of an array at the new scale."""
    rows, columns = slice(window.top, window.top + window.size[0]), slice(window.left, window.left + window.size[1])
    array = array[rows, columns]
    return array[:, ::-1] if window.mirrored else array


def test_windows_have_all_scales_places_and_directions_and_fit_the_square():
    found = windows(300)
    scales = np.array([max(each.scaled) / 64 for each in found])
    assert scales.min() < 0.2 and scales.max() > 1.9 and abs(scales.mean() - 1.05) < 0.1
    assert all(each.size == tuple(np.minimum(each.scaled, 64)) for each in found)
    assert 100 < sum(each.mirrored for each in found) < 200
    large = [each for each in found if each.scaled[1] > 64]
    places = np.array([each.left / (each.scaled[1] - 64) for each in large])
    assert places.min() == 0 or places.min() < 0.05
    assert places.max() > 0.95 and all(0 <= each.top <= each.scaled[0] - each.size[0] for each in found)


def test_the_aspect_ratio_stays_and_no_side_vanishes():
    for seed in range(20):
        window = draw_window((4, 1000), 64, (0.1, 2.0), False, np.random.default_rng(seed))
        assert window.scaled[0] == max(round(window.scaled[1] * 4 / 1000), 1)


def test_pixels_are_those_of_the_scaled_image():
    """Within two levels of noise: PIL holds the window's corner, a fraction of a pixel, in single precision."""
    image = np.random.default_rng(0).integers(0, 256, (*SOURCE, 3), dtype=np.uint8)
    for window in windows():
        scaled = Image.fromarray(image).resize(window.scaled[::-1], Image.Resampling.BILINEAR)
        difference = window.image(image).astype(int) - cut(window, np.asarray(scaled)).astype(int)
        assert window.image(image).shape[:2] == window.size
        assert abs(difference).max() <= 2 and abs(difference).mean() < 0.2


def test_boxes_are_scaled_moved_mirrored_and_clipped():
    generator = np.random.default_rng(0)
    for window in windows():
        corner, sides = generator.uniform(0, 50, (8, 2)), generator.uniform(1, 40, (8, 2))
        boxes = np.concatenate([corner, np.minimum(corner + sides, SOURCE[::-1])], axis=1)
        height, width = window.size
        for box, found, leaves in zip(boxes, window.boxes(boxes), window.cuts(boxes), strict=True):
            right, down = window.scaled[1] / SOURCE[1], window.scaled[0] / SOURCE[0]
            x0, x1 = box[0] * right - window.left, box[2] * right - window.left
            y0, y1 = box[1] * down - window.top, box[3] * down - window.top
            x0, x1 = (width - x1, width - x0) if window.mirrored else (x0, x1)
            clipped = [min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height)]
            assert found.tolist() == pytest.approx(clipped, abs=1e-9)
            assert leaves == (max(abs(np.array(clipped) - [x0, y0, x1, y1])) > 0.01)


def test_run_lengths_are_scaled_to_the_nearest_and_cut():
    whole = np.random.default_rng(1).random(SOURCE) > 0.5
    code = coco_mask.encode(np.asfortranarray(whole, dtype=np.uint8))
    for window in windows():
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(window.scaled, SOURCE, strict=True)
        )
        assert (window.mask(code) == cut(window, whole[rows][:, columns])).all()


def test_polygons_are_those_of_the_scaled_image():
    polygon = [10.5, 8, 70, 12.25, 60, 50, 20, 55]
    for window in windows():
        right, down = window.scaled[1] / SOURCE[1], window.scaled[0] / SOURCE[0]
        scaled = (np.reshape(polygon, (-1, 2)) * [right, down]).ravel().tolist()
        whole = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([scaled], *window.scaled))).astype(bool)
        expected, found = cut(window, whole), window.mask([polygon])
        assert found.shape == expected.shape
        # edges are drawn to a fifth of a pixel, from other corners
        assert (found != expected).sum() <= 2 * sum(window.size)
        assert abs(int(found.sum()) - int(expected.sum())) <= sum(window.size)


def test_an_empty_mask_has_an_empty_box():
    assert bounding_box(np.zeros((3, 4), bool)) == (0, 0, 0, 0)
