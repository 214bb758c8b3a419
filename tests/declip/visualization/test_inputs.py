import numpy as np
import pytest
import torch

import declip
from d2host.engine.errors import ConfigError, DataError
from declip.teachers.foundation import FoundationTeacher
from declip.visualization.inputs import ModelInput, spread_anchors


@pytest.fixture(scope="module")
def encoder():
    return declip.build_encoder("nano", "nano-clip")


def photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "patches", "grid"),
    [((480, 640), None, (12, 16)), ((640, 480), 32, (32, 24)), ((1, 2000), 8, (1, 8)), ((7, 7), None, (16, 16))],
)
def test_images_of_any_shape_get_a_grid_of_their_shape(encoder, size, patches, grid):
    seen = ModelInput.of(encoder, photo(*size), patches=patches)
    assert seen.grid == grid and seen.num_patches == grid[0] * grid[1]
    assert seen.pixels.shape == (1, 3, 8 * grid[0], 8 * grid[1]) and seen.image.shape[:2] == seen.pixels.shape[2:]


def test_models_see_their_own_normalisation():
    for model in (declip.build_encoder("nano", "nano-clip"), FoundationTeacher("nano-vfm")):
        image = photo(128, 128)
        seen = ModelInput.of(model, image)
        torch.testing.assert_close(seen.pixels[0], model.normalize(torch.tensor(image.transpose(2, 0, 1)).float()))


@pytest.mark.parametrize(
    ("place", "patch"), [((0, 0), 0), ((639, 0), 15), ((0, 479), 176), ((639, 479), 191), ((320, 100), 40)]
)
def test_an_anchor_is_the_patch_it_lies_in(encoder, place, patch):
    seen = ModelInput.of(encoder, photo(480, 640), anchors=[place])
    assert seen.anchors == (patch,)
    x, y = seen.centre(patch)
    assert abs(640 * x - place[0]) <= 20 and abs(480 * y - place[1]) <= 20


@pytest.mark.parametrize("place", [(640, 0), (0, 480), (-1, 5), (float("nan"), 0), (0, float("inf"))])
def test_an_anchor_outside_is_refused_with_the_image_in_numbers(encoder, place):
    with pytest.raises(DataError, match=r"lies outside of the image of 640x480 pixels: give x from 0 to 639"):
        ModelInput.of(encoder, photo(480, 640), anchors=[place])


@pytest.mark.parametrize("patches", [0, -3, 129])
def test_grids_have_bounds(encoder, patches):
    with pytest.raises(ConfigError, match="cannot be: choose 1 to 128"):
        ModelInput.of(encoder, photo(64, 64), patches=patches)


@pytest.mark.parametrize("size", [(80, 120), (1, 1), (1, 500)])
def test_anchors_of_nobodys_choice_lie_inside(encoder, size):
    assert len(ModelInput.of(encoder, photo(*size), spread_anchors(photo(*size))).anchors) == 3
