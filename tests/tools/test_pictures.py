"""The command lines that people use to look: at datasets, and at their own images."""

import pytest
import torch

from catseg.config import get_catseg_cfg
from d2host import build_model


@pytest.fixture(scope="module")
def weights(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": build_model(get_catseg_cfg(tiny_config)).state_dict()}, path)
    return path


def test_visualize_draws_a_dataset(tool, tmp_path):
    result = tool("visualize.py", "--dataset", "nano_val", "--count", 2, "--output", tmp_path / "seen" / "nano.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "seen" / "nano.png").stat().st_size > 10_000
    assert "2 of 200 images" in result.stdout


def test_visualize_names_the_datasets_it_knows(tool):
    result = tool("visualize.py", "--dataset", "ade")
    assert result.returncode == 2
    assert "dataset 'ade' is not registered: choose among" in result.stderr


def test_demo_segments_images_into_named_classes(tool, weights, tiny_config, tmp_path, datasets_root):
    tool("visualize.py", "--dataset", "nano_val", "--count", 1, "--output", tmp_path / "drawn.png")
    image = datasets_root / "nano" / "val" / "images" / "000000.png"
    result = tool(
        *("demo.py", "--config-file", tiny_config, "--weights", weights, "--images", image),
        *("--classes", "grass", "red ring", "--output", tmp_path / "out"),
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "000000.png").stat().st_size > 5_000


def test_demo_says_which_path_holds_no_image(tool, weights, tiny_config, tmp_path):
    result = tool(
        *("demo.py", "--config-file", tiny_config, "--weights", weights, "--images", tmp_path, "--classes", "grass")
    )
    assert result.returncode == 2
    assert f"no image in {tmp_path}" in result.stderr
