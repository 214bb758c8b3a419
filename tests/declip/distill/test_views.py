import numpy as np
import pytest
import torch

from d2host.engine.errors import DataError
from declip.data.detection.proposals import Proposals
from declip.distill.views import DistillationViews, ViewSizes, draw_grid, grid_boxes

SIZES = ViewSizes(student=64, student_patch=16, foundation_patch=14, crop=32)


def views_of(height, width, sizes=SIZES, seed=0):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return DistillationViews(sizes, max_split=4, max_crops=9)(image, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("height", "width", "grid"), [(48, 96, (2, 4)), (100, 37, (4, 1)), (64, 64, (4, 4)), (7, 300, (1, 4))]
)
def test_student_and_foundation_model_see_the_same_grid(height, width, grid):
    views = views_of(height, width)
    assert views["student"].shape == (3, 16 * grid[0], 16 * grid[1])
    assert views["foundation"].shape == (3, 14 * grid[0], 14 * grid[1])
    assert views["crops"].shape == (len(views["boxes"]), 3, 32, 32)


def test_views_show_the_whole_image_and_nothing_else():
    image = torch.full((3, 30, 64), 200, dtype=torch.uint8)
    image[:, :, 32:] = 100
    views = DistillationViews(SIZES)(image, np.random.default_rng(0))
    for key, middle in (("student", 32), ("foundation", 28)):
        left, right = views[key][:, :, : middle - 4], views[key][:, :, middle + 4 :]
        assert (left.float() - 200).abs().max() < 8 and (right.float() - 100).abs().max() < 8


def test_boxes_tile_the_students_view():
    views = views_of(32, 64)
    widths, heights = views["boxes"][:, 2] - views["boxes"][:, 0], views["boxes"][:, 3] - views["boxes"][:, 1]
    assert (widths * heights).sum() == pytest.approx(32 * 64)
    assert views["boxes"][:, 3].max() == 32 and views["boxes"][:, 2].max() == 64


def test_each_crop_shows_what_its_box_encloses():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :32, 32:] = 255
    boxes = grid_boxes(64, 64, 2, 2)
    crops = DistillationViews(SIZES)._crops(image, boxes)
    assert crops.float().mean((1, 2, 3)).tolist() == [0, 255, 0, 0]


def test_grids_keep_the_limits_of_aspect_and_number():
    rng = np.random.default_rng(0)
    grids = {draw_grid(rng, max_split=6, max_crops=36) for _ in range(2000)}
    assert {rows for rows, _ in grids} == {columns for _, columns in grids} == set(range(1, 7))
    assert all(rows / 2 <= columns <= 2 * rows for rows, columns in grids)
    assert all(rows * columns <= 9 for rows, columns in (draw_grid(rng, 6, 9) for _ in range(500)))


def test_views_repeat_with_their_generator():
    first, again = views_of(50, 80, seed=3), views_of(50, 80, seed=3)
    assert torch.equal(first["boxes"], again["boxes"])


def test_views_that_are_not_wanted_are_absent():
    views = views_of(50, 80, ViewSizes(student=64, student_patch=16, foundation_patch=0, crop=0))
    assert set(views) == {"student"}


@pytest.mark.parametrize(
    ("sides", "sentence"),
    [
        ({"student": 70, "crop": 32}, "student 70 is no multiple of the encoder's patch of 16"),
        ({"student": 8, "crop": 32}, "student 8 is no multiple of the encoder's patch of 16"),
        ({"student": 64, "crop": 40}, "crop 40 is no multiple of the encoder's patch of 16"),
    ],
)
def test_a_side_that_the_patch_does_not_divide_is_refused(sides, sentence):
    with pytest.raises(ValueError, match=sentence):
        ViewSizes(**sides, student_patch=16, foundation_patch=14)


def test_proposals_take_the_place_of_cells():
    """A bright square in the upper right of one image and nothing in the other, each crop the square or the rest."""
    boxes = np.array([[0.5, 0, 1, 0.5], [0, 0.5, 1, 1], [0.1, 0.1, 0.12, 0.5], [0, 0, 0.5, 0.5]], np.float32)
    proposals = Proposals("boxes.npz", {"a.jpg": 0, "b.jpg": 1}, np.array([3, 4]), boxes)
    image = torch.zeros(3, 60, 120, dtype=torch.uint8)
    image[:, :30, 60:] = 255
    views = DistillationViews(SIZES, max_crops=9, proposals=proposals)(image, np.random.default_rng(0), "x/a.jpg")
    assert views["boxes"].tolist() == [[32, 0, 64, 16], [0, 16, 64, 32]]  # the third is narrower than a patch
    assert views["crops"].float().mean((1, 2, 3)).tolist() == [255, 0]
    with pytest.raises(DataError, match=r"boxes\.npz has no proposals for image x/c\.jpg"):
        DistillationViews(SIZES, proposals=proposals)(image, np.random.default_rng(0), "x/c.jpg")


def test_no_more_proposals_are_drawn_than_crops_may_be_and_others_every_time():
    corner = np.random.default_rng(0).uniform(0, 0.5, (40, 2))
    boxes = np.concatenate([corner, corner + 0.5], axis=1).astype(np.float32)
    proposals = Proposals("boxes.npz", {"a.jpg": 0}, np.array([40]), boxes)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    views = DistillationViews(SIZES, max_crops=5, proposals=proposals)
    drawn = [views(image, np.random.default_rng(seed), "a.jpg")["boxes"] for seed in (0, 0, 1)]
    assert [len(each) for each in drawn] == [5, 5, 5]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
