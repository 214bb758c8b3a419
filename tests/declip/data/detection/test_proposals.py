import json
import random

import numpy as np
import pytest

from d2host.engine.errors import DataError
from declip.data.detection.proposals import draw_proposals, load_proposals, write_proposals

BOXES = np.array([[0, 0, 20, 10], [5, 5, 6, 6], [10, 0, 40, 30]], float)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "boxes.npz"
    write_proposals(
        path, [("x/a.jpg", (30, 40), BOXES), ("x/b.jpg", (10, 10), BOXES[:0]), ("c.jpg", (30, 40), BOXES[:1])]
    )
    return path


def in_coco(path, boxes, **image):
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": 30, "width": 40, **image}],
        "annotations": [{"image_id": 3, "bbox": [float(x) for x in box]} for box in boxes],
    }
    path.write_text(json.dumps(content))
    return path


def test_boxes_are_known_by_the_files_name_in_parts_of_its_sides(path):
    proposals = load_proposals(path)
    assert proposals.of("/elsewhere/a.jpg") == pytest.approx(BOXES / [40, 30, 40, 30], abs=1e-7)
    assert proposals.of("b.jpg").shape == (0, 4) and len(proposals.of("c.jpg")) == 1


def test_cocos_format_is_read_alike(path, tmp_path):
    sides = np.concatenate([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]], axis=1)
    found = load_proposals(in_coco(tmp_path / "boxes.json", sides)).of("a.jpg")
    assert (found == load_proposals(path).of("a.jpg")).all()


def test_images_without_proposals_are_named(path):
    proposals = load_proposals(path)
    proposals.check(["x/a.jpg", "y/c.jpg"])
    with pytest.raises(DataError, match=r"no proposals for 2 images, among them x/d\.jpg"):
        proposals.check(["a.jpg", "x/d.jpg", "e.jpg"])
    with pytest.raises(DataError, match=r"no proposals for image x/d\.jpg"):
        proposals.of("x/d.jpg")


def test_regions_are_drawn_among_those_of_a_patch_or_more():
    boxes = (BOXES / [40, 30, 40, 30]).astype(np.float32)
    found = [draw_proposals(np.random.default_rng(seed), boxes, (60, 80), 8, 1) for seed in range(20)]
    assert {tuple(each[0]) for each in found} == {tuple(boxes[0]), tuple(boxes[2])}
    every = draw_proposals(np.random.default_rng(0), boxes, (60, 80), 8, 9)
    assert (every == boxes[[0, 2]]).all()
    assert draw_proposals(np.random.default_rng(0), boxes[1:2], (60, 80), 8, 9).tolist() == [[0, 0, 1, 1]]


def test_what_is_no_file_of_proposals_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz do not exist: write it with"):
        load_proposals(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(DataError, match=r"text\.npz cannot be read"):
        load_proposals(tmp_path / "text.npz")
    arrays = {"file_names": np.array(["a.jpg"]), "counts": np.array([2]), "boxes": np.zeros((1, 4))}
    np.savez(tmp_path / "short.npz", **arrays)
    with pytest.raises(DataError, match="do not fit each other"):
        load_proposals(tmp_path / "short.npz")
    np.savez(tmp_path / "objects.npz", **{**arrays, "file_names": np.array([{}], object)})
    with pytest.raises(DataError, match="cannot be read"):
        load_proposals(tmp_path / "objects.npz")
    with pytest.raises(DataError, match=r"a box outside image a\.jpg"):
        load_proposals(in_coco(tmp_path / "outside.json", [[0, 0, 50, 10]]))
    with pytest.raises(DataError, match="'height' is 'tall'"):
        load_proposals(in_coco(tmp_path / "size.json", [], height="tall"))
    with pytest.raises(DataError, match=r"name image a\.jpg twice"):
        write_proposals(tmp_path / "twice.npz", [(f"{folder}/a.jpg", (9, 9), BOXES[:0]) for folder in "xy"])
        load_proposals(tmp_path / "twice.npz")


def test_a_file_that_is_cut_off_or_spoilt_is_refused_or_read(path, tmp_path):
    content, generator = path.read_bytes(), random.Random(0)
    for _ in range(200):
        spoilt = bytearray(content)
        if generator.random() < 0.5:
            spoilt = spoilt[: generator.randrange(len(spoilt))]
        else:
            spoilt[generator.randrange(len(spoilt))] = generator.randrange(256)
        (tmp_path / "spoilt.npz").write_bytes(spoilt)
        try:
            load_proposals(tmp_path / "spoilt.npz").check([])
        except DataError as error:
            assert "spoilt.npz" in str(error)
