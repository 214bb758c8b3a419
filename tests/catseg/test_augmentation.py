import numpy as np
import pytest
from PIL import Image

from catseg.augmentation import PAD_VALUE, color_jitter, random_crop, random_flip, resize
from declip.data.mapper import shortest_edge_size

IGNORE = 65535


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return image, rng.integers(0, 847, (40, 60)).astype(np.int64)


def test_resizing_scales_the_shorter_side_and_limits_the_longer():
    assert shortest_edge_size((40, 60), 20, 100) == (20, 30)
    assert shortest_edge_size((40, 60), 80, 90) == (60, 90)


@pytest.mark.parametrize("size", [(20, 30), (33, 47), (80, 120), (40, 60)])
def test_resizing_is_that_of_pil_up_to_two_grey_levels(size, sample):
    image, labels = resize(*sample, size)
    reference = np.asarray(Image.fromarray(sample[0]).resize(size[::-1], Image.Resampling.BILINEAR))
    assert image.shape == reference.shape and np.abs(image.astype(int) - reference).max() <= 2
    nearest = Image.fromarray(sample[1].astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST)
    assert (labels == np.asarray(nearest)).mean() > 0.97  # ties between two pixels may fall either way


def test_labels_above_255_survive_every_step(sample):
    image, labels = resize(*sample, (80, 120))
    image, labels = random_crop(image, labels, (100, 150), 1.0, IGNORE, np.random.default_rng(0))
    assert set(np.unique(labels)) <= set(np.unique(sample[1])) | {IGNORE}
    assert labels[labels != IGNORE].max() > 255


def test_a_crop_cuts_image_and_labels_alike(sample):
    image = np.repeat(sample[1][..., None] % 251, 3, axis=-1).astype(np.uint8)
    crop, labels = random_crop(image, sample[1], (16, 24), 1.0, IGNORE, np.random.default_rng(1))
    assert labels.shape == (16, 24) and (crop[..., 0] == labels % 251).all()


def test_a_small_image_is_padded_right_and_bottom(sample):
    crop, labels = random_crop(*sample, (50, 70), 1.0, IGNORE, np.random.default_rng(0))
    assert (labels[40:] == IGNORE).all() and (labels[:, 60:] == IGNORE).all()
    assert (crop[40:] == PAD_VALUE).all() and (crop[:40, :60] == sample[0]).all()


def test_a_crop_avoids_windows_that_one_class_fills():
    """Left half one class, right half many: with the limit, crops reach the right half."""
    labels = np.zeros((20, 60), np.int64)
    labels[:, 40:] = np.arange(400).reshape(20, 20)
    image = np.zeros((20, 60, 3), np.uint8)
    shares = {}
    for limit in (1.0, 0.75):
        crops = [random_crop(image, labels, (20, 20), limit, IGNORE, np.random.default_rng(k))[1] for k in range(50)]
        shares[limit] = np.mean([(crop == 0).mean() > 0.75 for crop in crops])
    assert shares[0.75] < 0.1 < shares[1.0]


def test_flipping_mirrors_both_half_of_the_time(sample):
    flips = 0
    for seed in range(40):
        image, labels = random_flip(*sample, np.random.default_rng(seed))
        mirrored = bool((image == sample[0][:, ::-1]).all())
        assert (labels == (sample[1][:, ::-1] if mirrored else sample[1])).all()
        flips += mirrored
    assert 10 < flips < 30


def test_jitter_changes_colours_within_range_and_repeats_by_seed(sample):
    image = sample[0]
    results = [color_jitter(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all(result.dtype == np.uint8 and result.shape == image.shape for result in results)
    assert sum((result != image).any() for result in results) > 10
    assert (color_jitter(image, np.random.default_rng(3)) == results[3]).all()


def test_jitter_changes_single_colours_as_its_formula_does():
    """Every step by numpy tables, drawn as it is."""

    def affine(image, factor, offset):
        return (image * factor + offset).clip(0, 255).astype(np.uint8)

    def reference(image, rng):
        chance = lambda: rng.random() < 0.5  # noqa: E731
        if chance():
            image = affine(image, 1.0, rng.uniform(-32, 32))
        first = chance()
        if first and chance():
            image = affine(image, rng.uniform(0.5, 1.5), 0.0)
        saturation = rng.uniform(0.5, 1.5) if chance() else 1.0
        hue = rng.uniform(-18, 18) / 180 if chance() else 0.0
        if (saturation, hue) != (1.0, 0.0):
            hsv = np.array(Image.fromarray(image).convert("HSV"))
            hsv[..., 0] += np.uint8(round(hue * 256) % 256)
            hsv[..., 1] = affine(hsv[..., 1], saturation, 0.0)
            image = np.asarray(Image.fromarray(hsv, mode="HSV").convert("RGB"))
        return affine(image, rng.uniform(0.5, 1.5), 0.0) if not first and chance() else image

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for seed in range(40):
        assert (color_jitter(image, np.random.default_rng(seed)) == reference(image, np.random.default_rng(seed))).all()
