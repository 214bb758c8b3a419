"""The command lines that people use to look: at datasets, and at their own images."""

import pytest
import torch
from PIL import Image

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from d2host import build_model


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    """A checkpoint beside the config of its run."""
    cfg, folder = get_catseg_cfg(tiny_config), tmp_path_factory.mktemp("run")
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "model.pth"


def test_visualize_draws_a_dataset(tool, tmp_path):
    result = tool("visualize.py", "--dataset", "nano_val", "--count", 2, "--output", tmp_path / "seen" / "nano.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "seen" / "nano.png").stat().st_size > 10_000
    assert "2 of 200 images" in result.stdout


def test_visualize_names_the_datasets_it_knows(tool):
    result = tool("visualize.py", "--dataset", "ade")
    assert result.returncode == 2
    assert "dataset 'ade' is not registered: choose among" in result.stderr


def test_demo_segments_images_into_named_classes(tool, model, tmp_path, datasets_root):
    tool("visualize.py", "--dataset", "nano_val", "--count", 1, "--output", tmp_path / "drawn.png")
    image = datasets_root / "nano" / "val" / "images" / "000000.png"
    for number, options in enumerate((("--model", model), ("--model", "nano", "--weights", "nano-clip"))):
        output = tmp_path / f"out{number}"
        result = tool("demo.py", *options, "--images", image, "--classes", "grass", "red ring", "--output", output)
        assert result.returncode == 0, result.stderr
        assert (output / "000000.png").stat().st_size > 5_000


def test_demo_says_which_path_holds_no_image(tool, tmp_path):
    result = tool("demo.py", "--model", "nano", "--images", tmp_path, "--classes", "grass")
    assert result.returncode == 2
    assert f"no image in {tmp_path}" in result.stderr


def test_demo_writes_over_no_image_and_no_other_picture(tool, tmp_path):
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (32, 24)).save(tmp_path / name)
    images = ("--images", tmp_path / "a", tmp_path / "b", "--classes", "grass", "sky")
    result = tool("demo.py", "--model", "nano", *images, "--output", tmp_path / "a")
    assert result.returncode == 2 and "would take the place of" in result.stderr
    assert tool("demo.py", "--model", "nano", *images, "--output", tmp_path / "out").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.png", "x_2.png"]
