import pytest
import torch
from PIL import Image, ImageDraw

from d2host import build_model
from declip.data.detection.proposals import load_proposals
from declip.data.image_sources import list_images
from fvit.config import get_fvit_cfg
from fvit.propose import propose_regions

MOST = 12


@pytest.fixture
def images(tmp_path):
    """Two images of other shapes than the model's square."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a.png", (200, 100)), ("b.png", (50, 90))):
        image = Image.new("RGB", size, "grey")
        ImageDraw.Draw(image).ellipse((5, 10, 40, 60), fill="red")
        image.save(folder / name)
    return folder


@pytest.fixture
def run(options, tmp_path):
    """A run's folder of a detector that has learned nothing, and the detector."""
    torch.manual_seed(0)
    cfg = get_fvit_cfg("fvit_nano.yaml", options(OUTPUT_DIR=tmp_path / "run"))
    model = build_model(cfg)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, tmp_path / "run/model_final.pth")
    return tmp_path / "run", model


def test_boxes_lie_in_their_images_the_likeliest_first(run, images):
    _, model = run
    found = list(propose_regions(model, list_images(str(images)), MOST))
    assert [(name.rpartition("/")[2], size) for name, size, _ in found] == [("a.png", (100, 200)), ("b.png", (90, 50))]
    for _, (height, width), boxes in found:
        assert boxes.shape == (MOST, 4) and (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= width + 1e-4).all() and (boxes[:, [1, 3]] <= height + 1e-4).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    (first,) = propose_regions(model, [list_images(str(images))[0]], 3)
    assert (first[2] == found[0][2][:3]).all()


def test_a_run_writes_the_proposals_of_a_folder(run, images, run_here, repository, tmp_path):
    folder, model = run
    done = run_here(
        repository / "tools/write_proposals.py",
        *("--model", folder, "--images", images, "--output", tmp_path / "boxes.npz", "--most", MOST),
    )
    assert done.returncode == 0 and "proposals for 2 images" in done.stdout, done.stderr
    proposals = load_proposals(tmp_path / "boxes.npz")
    for name, (height, width), boxes in propose_regions(model, list_images(str(images)), MOST):
        assert proposals.of(name) == pytest.approx(boxes / [width, height, width, height], abs=1e-5)


def test_images_of_one_name_are_refused_before_any_is_looked_at(run, images, run_here, repository, tmp_path):
    (images / "more").mkdir()
    (images / "more/a.png").write_bytes((images / "a.png").read_bytes())
    done = run_here(
        repository / "tools/write_proposals.py",
        *("--model", run[0], "--images", images, "--output", tmp_path / "boxes.npz"),
    )
    assert done.returncode == 2 and "name image a.png twice" in done.stderr, done.stderr
