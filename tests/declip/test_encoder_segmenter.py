import numpy as np
import pytest

import declip
from d2host.engine.errors import CheckpointError, ConfigError
from nanoworld.world import render_scene

NAMES = ["grass", "sky", "red ball"]


def test_weights_of_the_project_say_what_they_are_of(tmp_path):
    image, encoder = render_scene(2, 0).image, declip.build_encoder("nano", "nano-declip")
    path = declip.save_encoder(encoder, tmp_path / "mine.safetensors")
    expected = declip.segment(image, NAMES, "nano").labels
    assert np.array_equal(declip.segment(image, NAMES, path).labels, expected)
    with pytest.raises(ConfigError, match="are given as weights, too: leave one of them out"):
        declip.load_segmenter(path, "nano-clip")


def test_models_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="is no trained model"):
        declip.load_segmenter(tmp_path)
    with pytest.raises(ConfigError):
        declip.load_segmenter("ViT-B-32")
    with pytest.raises(ConfigError, match="leave these options out"):
        declip.load_segmenter(tmp_path, weights="openai")
    (tmp_path / "config.yaml").write_text("MODEL: {META_ARCHITECTURE: Other}")
    (tmp_path / "model.pth").touch()
    with pytest.raises(CheckpointError, match="CATSeg"):
        declip.load_segmenter(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["photo.jpg", "notes.txt", "config.yaml"])
def test_a_path_of_something_else_is_no_model(name, tmp_path):
    (tmp_path / name).write_text("something else")
    with pytest.raises(CheckpointError, match="is no model: give a training's output directory"):
        declip.load_segmenter(tmp_path / name)
