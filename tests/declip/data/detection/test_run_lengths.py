import numpy as np
import pytest
from pycocotools import mask as coco_mask

from declip.data.detection.run_lengths import fault_in_mask, run_lengths, run_lengths_of

SIZE = (37, 53)


def codes():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        yield coco_mask.encode(np.asfortranarray(rng.random(SIZE) < share, dtype=np.uint8))
    large = np.zeros((3000, 4000), np.uint8, order="F")
    large[700:, 11:3500] = 1
    yield coco_mask.encode(large)


def expected_runs(code):
    pixels = coco_mask.decode(code).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    ends = np.concatenate([changes, [pixels.size]])
    runs = np.diff(ends, prepend=0)
    return runs if not pixels[0] else np.concatenate([[0], runs])


@pytest.mark.parametrize("code", list(codes()))
def test_runs_are_those_of_the_pixels(code):
    runs = expected_runs(code)
    for counts in (code["counts"], code["counts"].decode(), runs.tolist()):
        assert np.array_equal(run_lengths_of(counts), runs)
        assert not fault_in_mask({"size": code["size"], "counts": counts}, *code["size"])


def test_damaged_codes_are_refused_or_of_the_images_size():
    rng = np.random.default_rng(1)
    whole = next(code for code in codes() if len(code["counts"]) > 40)
    for _ in range(500):
        counts = bytearray(whole["counts"][: rng.integers(1, len(whole["counts"]) + 1)])
        for _ in range(rng.integers(3)):
            counts[rng.integers(len(counts))] = rng.integers(256)
        if not fault_in_mask({"size": SIZE, "counts": bytes(counts)}, *SIZE):
            assert coco_mask.decode({"size": list(SIZE), "counts": bytes(counts)}).shape == SIZE


@pytest.mark.parametrize(
    "counts",
    ["", "é", "~~~", "oooooooooooooooo1", [], [-1, 1962], ["a"], [1e300], [[1, 2], [3]], [37 * 53 - 1], "0" * 9],
    ids=repr,
)
def test_what_is_no_code_of_the_mask_is_refused_in_words(counts):
    assert fault_in_mask({"size": list(SIZE), "counts": counts}, *SIZE).startswith("its mask ")


def test_a_mask_of_another_size_is_refused():
    assert "its image of [37, 53]" in fault_in_mask({"size": [53, 37], "counts": [37 * 53]}, *SIZE)


def test_polygons_of_two_points_cover_nothing():
    triangle = [0, 0, 5, 0, 5, 5]
    assert run_lengths([triangle, [0, 0, 30, 30]], *SIZE) == run_lengths([triangle], *SIZE)
    assert not coco_mask.decode(run_lengths([[0, 0, 30, 30]], *SIZE)).any()


def test_polygons_are_no_run_lengths():
    assert fault_in_mask([[0, 0, 5, 0, 5, 5]], *SIZE) == ""
