import json
import resource
import sys

import open_clip
import pytest
import torch

import declip
from d2host.engine.errors import CheckpointError, ConfigError
from declip.export import DenseProgram, export_open_clip, export_program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
SMALL = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    return declip.build_encoder("nano", "random", context="qk").eval()


def test_a_program_computes_what_the_encoder_does_for_any_batch(nano, tmp_path):
    assert export_program(DenseProgram(nano), 64, tmp_path / "dense.pt2") < 1e-5
    program = torch.export.load(tmp_path / "dense.pt2").module()
    for count in (1, 7):
        images = torch.rand(count, 3, 64, 64) * 255
        torch.testing.assert_close(program(images), DenseProgram(nano)(images), rtol=1e-4, atol=1e-5)


def test_onnx_computes_what_the_encoder_does_for_any_batch(nano, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="onnx extra is not installed")
    assert export_program(DenseProgram(nano), 64, tmp_path / "dense.onnx") < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "dense.onnx"), providers=["CPUExecutionProvider"])
    images = torch.rand(5, 3, 64, 64) * 255
    output = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(output, DenseProgram(nano)(images), rtol=1e-3, atol=1e-4)


def test_open_clip_loads_the_folder(tmp_path):
    torch.manual_seed(0)
    encoder = declip.build_encoder(SMALL, "random", context="q").eval()
    folder = export_open_clip(encoder, tmp_path / "hub")
    loaded = open_clip.create_model(f"local-dir:{folder}").eval()
    images = torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(loaded.encode_image(images), encoder.encode_image(images), rtol=1e-4, atol=1e-5)
    again = declip.build_encoder(SMALL, str(folder / "open_clip_model.safetensors"))
    assert again.context.value == "q"
    assert json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]["size"] == [224, 224]
    assert "runs the last block as CLIP" in " ".join((folder / "README.md").read_text().split())
    export_open_clip(encoder, folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_is_no_export_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="mine exists and is no export"):
        export_open_clip(declip.build_encoder(SMALL, "random"), tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_impossible_exports_are_refused(nano, tmp_path):
    with pytest.raises(ConfigError, match=r"w\.txt is neither a \.pt2"):
        export_program(DenseProgram(nano), 64, tmp_path / "w.txt")
    with pytest.raises(ConfigError, match="open_clip has no model 'nano'"):
        export_open_clip(nano, tmp_path / "hub")


class Drifting(torch.nn.Module):
    """Traced with one random offset, run with another."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return images * self.calls


def test_a_program_that_differs_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="differs from the model"):
        export_program(Drifting(), 16, tmp_path / "w.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_model_that_gives_no_numbers_is_not_exported(tmp_path, value):
    encoder = declip.build_encoder("nano", "random").eval()
    encoder.clip.visual.proj.data.mul_(value)
    with pytest.raises(CheckpointError, match="what the model makes of an image are not finite"):
        export_program(DenseProgram(encoder), 64, tmp_path / "w.pt2")
    small = declip.build_encoder(SMALL, "random")
    small.clip.visual.proj.data.mul_(value)
    with pytest.raises(CheckpointError, match=r"visual\.proj"):
        export_open_clip(small, tmp_path / "hub")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("side", [0, -64, 100_000])
def test_impossible_sides_are_refused(nano, tmp_path, side):
    with pytest.raises(ConfigError, match=f"images of {side} pixels cannot be exported for"):
        export_program(DenseProgram(nano), side, tmp_path / "w.pt2")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra_before_anything_is_computed(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf'ONNX needs packages \(.*{name}.* missing\): pip install -e "\.\[onnx\]"'):
        export_program(torch.nn.Identity(), 64, tmp_path / "w.onnx")


def test_a_program_that_does_not_fit_the_disk_is_not_written(nano, tmp_path):
    """A limit on the size of files stands for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(CheckpointError, match=r"w\.pt2 could not be written"):
            export_program(DenseProgram(nano), 64, tmp_path / "w.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_files_of_others_in_an_export_are_kept(tmp_path):
    encoder = declip.build_encoder(SMALL, "random")
    folder = export_open_clip(encoder, tmp_path / "hub")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="is no export, or holds more than one"):
        export_open_clip(encoder, folder)
    assert (folder / "notes.txt").read_text() == "mine"
