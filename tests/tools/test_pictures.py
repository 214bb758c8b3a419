"""The command lines that people use to look: at datasets, and at their own images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from d2host import build_model
from declip.data.video import opened_video, write_video


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    """A checkpoint beside the config of its run."""
    cfg, folder = get_catseg_cfg(tiny_config), tmp_path_factory.mktemp("run")
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "model.pth"


def test_visualize_draws_a_dataset(tool, tmp_path):
    output = tmp_path / "seen" / "nano.png"
    result = tool("visualize.py", "dataset", "--dataset", "nano_val", "--count", 2, "--output", output)
    assert result.returncode == 0, result.stderr
    assert output.stat().st_size > 10_000
    assert f"the picture is in {output}" in result.stdout


def test_visualize_names_the_datasets_it_knows(tool):
    result = tool("visualize.py", "dataset", "--dataset", "ade")
    assert result.returncode == 2
    assert "dataset 'ade' is not registered: choose among" in result.stderr


def test_visualize_refuses_more_rows_than_a_figure_holds(tool):
    result = tool("visualize.py", "dataset", "--dataset", "nano_val", "--count", 101)
    assert result.returncode == 2 and "a figure of 101 images cannot be drawn" in result.stderr


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "x.jpg"
    Image.effect_noise((64, 48), 60).convert("RGB").save(path)
    return path


CLIP, DECLIP, VFM = ("--encoder", "nano", "nano-clip", "qk"), ("--encoder", "nano", "nano-declip"), ("nano-vfm",)
PICTURES = {  # name → options, what is said besides
    "attention": (*CLIP, "--image", "PHOTO", "--anchors", "40,20", "--layers", 0, -1, "--patches", 6),
    "proxy-tokens": (*CLIP, "--teacher", *VFM, "--images", "PHOTO", "--patches", 6),
    "correlation": (*CLIP, *DECLIP, "--teacher", *VFM, "--image", "PHOTO", "--patches", 6),
    "segmentation": (
        "--images",
        "PHOTO",
        "--classes",
        "grass",
        "sky",
        "--model",
        "nano",
        "--model",
        "nano",
        "nano-clip",
    ),
}
SAID = {"attention": "| nano, nano-clip, qk |       5 |", "proxy-tokens": "| nano-vfm            |       5 |"}


@pytest.mark.parametrize("name", PICTURES)
def test_visualize_draws_what_models_see(name, tool, photo, tmp_path):
    options = [photo if each == "PHOTO" else each for each in PICTURES[name]]
    result = tool("visualize.py", name, *options, "--output", tmp_path / "x.svg")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "x.svg").read_text().startswith("<?xml") and (tmp_path / "x.svg").stat().st_size > 5_000
    assert SAID.get(name, "") in result.stdout


def test_visualize_segments_a_dataset_beside_its_truth(tool, tmp_path):
    options = ("--dataset", "nano_val", "--count", 1, "--model", "nano", "--output", tmp_path / "x.png")
    assert tool("visualize.py", "segmentation", *options).returncode == 0
    assert Image.open(tmp_path / "x.png").width > 3 * 300
    result = tool("visualize.py", "segmentation", *options, "--classes", "grass")
    assert result.returncode == 2 and "--classes are 1, 'nano_val' has 42" in result.stderr


def test_visualize_draws_what_runs_leave(tool, tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 1, "total_loss": 2}\n{"iteration": 2, "total_loss": 1}')
    (tmp_path / "results.json").write_text('{"qk": {"nano_val": {"mIoU": 50}}}')
    runs = ("--run", "a", tmp_path, "--run", "b", tmp_path / "metrics.json")
    assert tool("visualize.py", "training", *runs, "--output", tmp_path / "x.png").returncode == 0
    sides = (f"64={tmp_path}", f"128={tmp_path}")
    assert tool("visualize.py", "resolution", "--results", "a", *sides, "--output", tmp_path / "y.png").returncode == 0
    assert (tmp_path / "x.png").stat().st_size > 5_000 and (tmp_path / "y.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("attention", "--image", "PHOTO"), "no model is named: give --encoder NAME WEIGHTS, or --teacher NAME"),
        (("attention", "--image", "PHOTO", *CLIP, *CLIP), "'nano, nano-clip, qk' is drawn twice"),
        (
            ("attention", "--image", "PHOTO", *CLIP, "--anchors", "64,0"),
            "anchor 64,0 lies outside of the image of 64x48",
        ),
        (("attention", "--image", "PHOTO", *CLIP, "--layers", "6"), "'nano' has no block 6"),
        (("attention", "--image", "PHOTO", *CLIP, "--output", "x.gif"), "has to end in .png or .jpg or .pdf or .svg"),
        (("segmentation", "--images", "PHOTO", "--model", "nano"), "--images have no classes of their own"),
        (("training", "--run", "a", "a", "--run", "a", "b"), "'a' is drawn twice"),
        (("training", "--run", "a", "gone"), "metrics file gone does not exist"),
        (("resolution", "--results", "a"), "--results a names no folder"),
        (("resolution", "--results", "a", "b", "c"), "--results a: b and c are of one size: give SIDE=FOLDER"),
        (("training", "--run", "x/a", "a", "--run", "y/a", "b"), "metrics file a does not exist"),
    ],
)
def test_visualize_says_in_one_sentence_what_cannot_be_drawn(options, message, tool, photo):
    result = tool("visualize.py", *(photo if each == "PHOTO" else each for each in options))
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr


def test_demo_segments_images_into_named_classes(tool, model, tmp_path, datasets_root):
    tool("visualize.py", "dataset", "--dataset", "nano_val", "--count", 1, "--output", tmp_path / "drawn.png")
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


@pytest.fixture
def demo(tool, tmp_path):
    """Runs the demo with ``nano`` on paths below a folder; the output is below it, too."""

    def run(*images, output="out", options=()):
        paths = ("--images", *(tmp_path / image for image in images), "--output", tmp_path / output)
        return tool("demo.py", "--model", "nano", *paths, "--classes", "grass", "sky", *options)

    return run


def draw_images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24)).save(folder / name)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_demo_writes_over_no_image_and_no_other_picture(demo, tmp_path):
    draw_images(tmp_path, "a/x.png", "b/x.png", "b/x.jpg", "b/deep/X.bmp")
    before = contents(tmp_path)
    result = demo("a", "b", output="a")
    assert result.returncode == 2 and "would take the place of" in result.stderr
    assert demo("a", "b", output="b", options=["--overwrite"]).returncode == 2
    assert contents(tmp_path) == before
    result = demo("a", "b", "a/x.png")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["X_2.png", "x.png", "x_3.png", "x_4.png"]
    assert f"{tmp_path}/b/x.png is in {tmp_path}/out/x_4.png" in result.stdout


@pytest.mark.parametrize("make", ["write_text", "symlink_to", "mkdir"])
def test_demo_writes_over_nothing_that_it_finds_unless_it_is_told_to(make, demo, tmp_path):
    draw_images(tmp_path, "a/x.png")
    (tmp_path / "out").mkdir()
    getattr(tmp_path / "out/x.png", make)(*([] if make == "mkdir" else ["gone"]))
    before = contents(tmp_path)
    result = demo("a")
    assert result.returncode == 2 and "x.png exists: give another --output, or --overwrite" in result.stderr
    assert contents(tmp_path) == before
    result = demo("a", options=["--overwrite"])
    assert result.returncode == (2 if make == "mkdir" else 0), result.stderr


def test_demo_takes_its_own_pictures_for_no_images(demo, tmp_path):
    draw_images(tmp_path, "a/x.png", "a/deep/y.png")
    for _ in range(2):
        assert demo("a", output="a/out", options=["--overwrite"]).returncode == 0
        assert sorted(path.name for path in (tmp_path / "a/out").iterdir()) == ["x.png", "y.png"]


def test_demo_leaves_out_what_it_cannot_read_and_says_so_at_the_end(demo, tmp_path):
    draw_images(tmp_path, "a/1.png", "a/3.png", "a/scan.tif")
    (tmp_path / "a/2.png").write_bytes(b"no image")
    result = demo("a", "a/scan.tif")
    assert result.returncode == 2
    assert re.search(r"error: 1 of 4 images are left out: image .*2\.png cannot be read", result.stderr)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "3.png", "scan.png"]


def test_demo_takes_images_of_every_shape(tool, model, tmp_path):
    for number, size in enumerate([(2000, 1), (1, 2000), (1, 1), (37, 500)]):
        Image.new("RGB", size, (90, 160, 80)).save(tmp_path / f"{number}.png")
    for name in ("nano", model):
        options = ("--images", tmp_path, "--classes", "grass", "sky", "--output", tmp_path / "out", "--overwrite")
        result = tool("demo.py", "--model", name, *options)
        assert result.returncode == 0, result.stderr
        for picture in (tmp_path / "out").iterdir():
            assert max(Image.open(picture).size) < 1000


def test_demo_writes_overlays_labels_and_segments(demo, tmp_path):
    draw_images(tmp_path, "a/x.png", "a/y.jpg")
    result = demo("a", options=["--background", "0.9", "--write", "overlays", "labels", "segments"])
    assert result.returncode == 0, result.stderr
    names = ["labels/x.png", "labels/y.png", "overlays/x.png", "overlays/y.png", "segments.json"]
    assert sorted(contents(tmp_path / "out")) == names
    segments = json.loads((tmp_path / "out/segments.json").read_text())
    assert [category["name"] for category in segments["categories"]] == ["grass", "sky", "other"]
    assert [Path(image["file_name"]).name for image in segments["images"]] == ["x.png", "y.jpg"]
    with Image.open(tmp_path / "out/labels/x.png") as labels:
        areas = {index: count for count, index in labels.getcolors()}
    own = [each for each in segments["annotations"] if each["image_id"] == 1]
    assert {each["category_id"] - 1: each["area"] for each in own} == areas
    again = demo("a", options=["--write", "segments"])
    assert again.returncode == 2 and "segments.json exists" in again.stderr


def test_demo_segments_videos_frame_by_frame(demo, tmp_path):
    pytest.importorskip("av", reason="videos need PyAV (extra [video])")
    frames = [np.full((32, 48, 3), value, np.uint8) for value in (0, 90, 180)]
    write_video(frames, tmp_path / "a/street.mp4", rate=10)
    result = demo("a")
    assert result.returncode == 0, result.stderr
    assert sorted(contents(tmp_path / "out")) == ["overlays/street.mp4"]
    with opened_video(tmp_path / "out/overlays/street.mp4") as (found, _):
        assert [frame.shape for frame in found] == [(32, 48, 3)] * 3


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["grass", "grass"], "twice"),
        (["very " * 300], "of 300 words is longer than the text tower of 'nano' reads"),
        ([f"thing{index}" for index in range(10_000)], "10,000 class names, synonyms included, are too many"),
    ],
)
def test_demo_refuses_names_as_python_does(classes, sentence, tool, tmp_path):
    draw_images(tmp_path, "a/x.png")
    result = tool("demo.py", "--images", tmp_path / "a", "--classes", *classes, "--output", tmp_path / "out")
    assert result.returncode == 2 and sentence in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\u2028b"])
def test_a_name_of_several_lines_is_refused_in_one(name, tool):
    result = tool("visualize.py", "dataset", "--dataset", name)
    assert result.returncode == 2 and "is not registered" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
