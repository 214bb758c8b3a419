from unittest import mock

import numpy as np
import pytest
from PIL import Image

import declip
from d2host.engine.errors import DataError
from declip.app.desk import Desk, Limits, split_names
from declip.models.encoder import DenseCLIP
from nanoworld.world import render_scene

LIMITS = Limits(file_bytes=100_000, pixels=60_000, names=4, encoded_images=2)


@pytest.fixture(scope="module")
def desk():
    return Desk({"nano": declip.load_segmenter("nano")}, LIMITS)


def test_names_are_separated_by_commas_and_lines():
    assert split_names("car, tv; monitor,\n traffic   light") == ["car", "tv; monitor", "traffic light"]
    with pytest.raises(DataError, match="there are no class names"):
        split_names(" , ")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("grass,,sky", "is empty"),
        ("grass, grass", "'grass' is named twice"),
        ("a, b; c, d, e", "5 class names, synonyms included, are too many: give at most 4"),
        ("very " * 300, "is longer than the text tower of 'nano' reads"),
    ],
)
def test_names_are_refused_as_in_python(names, sentence, desk):
    with pytest.raises(DataError, match=sentence):
        desk.segment("nano", np.zeros((32, 32, 3), np.uint8), names)


def test_uploads_are_read_within_the_limits(desk, tmp_path):
    Image.fromarray(render_scene(2, 0).image).save(tmp_path / "a.png")
    assert desk.read(tmp_path / "a.png", "a.png").shape == (128, 128, 3)
    Image.new("RGB", (300, 300)).save(tmp_path / "many.png")
    (tmp_path / "large.png").write_bytes(b"\0" * 200_000)
    (tmp_path / "notes.png").write_text("no image")
    for name, sentence in [
        ("many.png", "image x.png cannot be read \\(300x300 pixels, of 1 to 60,000\\)"),
        ("large.png", "image x.png has 0.2 MB, of at most 0: make it smaller"),
        ("notes.png", "image x.png cannot be read \\(its format is none of"),
    ]:
        with pytest.raises(DataError, match=sentence):
            desk.read(tmp_path / name, "x.png")


def test_an_unknown_model_is_refused(desk):
    with pytest.raises(DataError, match="model 'other' is not offered: choose among nano"):
        desk.segment("other", np.zeros((32, 32, 3), np.uint8), "grass")


def test_images_are_encoded_once_while_they_are_kept(desk):
    images = [render_scene(2, index).image for index in range(3)]
    with mock.patch.object(DenseCLIP, "run_blocks", autospec=True, side_effect=DenseCLIP.run_blocks) as encode:
        for index in (0, 0, 1, 0, 2, 0, 1):  # 2 pushes 1 out
            desk.segment("nano", images[index], "grass, sky")
    assert encode.call_count == 4 and len(desk._encoded) == 2
