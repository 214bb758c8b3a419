"""The command lines that judge encoders, and bring weights in and out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
import declip
from catseg.config import get_catseg_cfg
from d2host import build_model
from declip.models.factory import create_clip
from declip.models.weights import save_encoder
from declip.weights.files import read_metadata

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return save_encoder(
        declip.build_encoder("nano", "random", context="qk"), tmp_path_factory.mktemp("w") / "nano.safetensors"
    )


def test_eval_dense_compares_context_types(tool, weights, tmp_path):
    result = tool(
        *(
            "eval_dense.py",
            "--encoder",
            "nano",
            "--weights",
            weights,
            "--contexts",
            "vanilla",
            "qk",
            "proxy:nano-vfm",
            "--prompts",
            "name",
        ),
        *("--datasets", "nano_val", "--max-images", 4, "--visualize", 2, "--output", tmp_path / "out"),
        "--save-predictions",
    )
    assert result.returncode == 0, result.stderr
    assert "first 4 of" in result.stdout + result.stderr
    for context in ("vanilla", "qk"):
        saved = list((tmp_path / f"out/{context}/nano_val/predictions").glob("*.png"))
        assert len(saved) == 4 and all(np.asarray(Image.open(file)).max() < 54 for file in saved)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert set(results) == {"vanilla", "qk", "proxy:nano-vfm"} and 0 <= results["qk"]["nano_val"]["mIoU"] <= 100
    assert "| vanilla" in (tmp_path / "out/results.md").read_text()
    assert (tmp_path / "out/qk/nano_val/per_class.csv").is_file() and list((tmp_path / "out").rglob("*.png"))


def test_eval_dense_names_unknown_contexts(tool):
    result = tool("eval_dense.py", "--encoder", "nano", "--weights", "random", "--contexts", "qk", "qkv")
    assert result.returncode == 2 and "error: context 'qkv' is unknown: choose among" in result.stderr


def test_eval_dense_names_unknown_datasets(tool):
    result = tool("eval_dense.py", "--encoder", "nano", "--weights", "random", "--datasets", "voc23")
    assert result.returncode == 2 and "dataset 'voc23' is not registered" in result.stderr


def test_eval_regions_writes_points_over_resolutions(tool, weights, tmp_path):
    result = tool(
        *("eval_regions.py", "--encoder", "nano", "--weights", weights, "--sides", 64, 96, "--prompts", "name"),
        *("--max-images", 3, "--save-predictions", "--output", tmp_path / "out"),
    )
    assert result.returncode == 0, result.stderr
    points = {(row["features"], row["side"]) for row in json.loads((tmp_path / "out/results.json").read_text())}
    dense = {(f"qk, {method}", side) for method in ("boxes", "masks") for side in (64, 96)}
    assert points == {*dense, ("class token, crops", 128)}
    with open(tmp_path / "out/per_class.csv", encoding="utf-8") as file:
        assert {"class", "top1", "top5", "regions"} <= set(next(csv.DictReader(file)))
    assert (tmp_path / "out/resolutions.png").is_file()
    assert "Numbers are of the first 3 of 200 images" in result.stdout + result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {(line["features"], line["side"]) for line in lines} == points
    crops = [line for line in lines if line["side"] == 128]
    assert len({(line["image"], line["segment_id"]) for line in crops}) == len(crops) == len(lines) // 5
    for line in crops:
        assert line["prediction"] == line["top5"][0][0] and len(line["top5"]) == 5
        assert [score for _, score in line["top5"]] == sorted((score for _, score in line["top5"]), reverse=True)
    right = {}  # the table from the lines
    for line in crops:
        right.setdefault(line["label"], []).append(line["prediction"] == line["label"])
    with open(tmp_path / "out/per_class.csv", encoding="utf-8") as file:
        table = {row["class"]: float(row["top1"]) for row in csv.DictReader(file) if row["pixels"] == "128"}
    assert {name: 100 * sum(hits) / len(hits) for name, hits in right.items()} == pytest.approx(table, abs=1e-3)


def test_eval_regions_refuses_sides_between_patches(tool):
    result = tool(
        "eval_regions.py", "--encoder", "nano", "--weights", "nano-clip", "--regions", "nano_val", "--sides", 100
    )
    assert result.returncode == 2 and "side 100 is no multiple of the 8-pixel patches" in result.stderr


def test_weights_are_converted_and_remember_what_they_are(tool, tmp_path):
    torch.save({"state_dict": create_clip("nano").clip.state_dict()}, tmp_path / "clip.pt")
    options = ["--encoder", "nano", "--context", "q", "--attention-scale", "none", "-o", tmp_path / "new.safetensors"]
    result = tool("convert_checkpoint.py", tmp_path / "clip.pt", *options)
    assert result.returncode == 0, result.stderr
    assert "layout open_clip" in result.stdout + result.stderr
    metadata = read_metadata(tmp_path / "new.safetensors")
    assert (metadata["context"], metadata["attention_scale"]) == ("q", "none")
    before = (tmp_path / "new.safetensors").read_bytes()
    result = tool("convert_checkpoint.py", tmp_path / "new.safetensors", *options)
    assert result.returncode == 2 and "conversion never overwrites it" in result.stderr
    assert (tmp_path / "new.safetensors").read_bytes() == before


def test_halved_weights_keep_what_was_known_about_them(tool, tmp_path):
    encoder = declip.build_encoder("nano", "random", context="k", attention_scale="none")
    save_encoder(encoder, tmp_path / "full.safetensors", teacher="dinov2_vitb14")
    half = tmp_path / "half.safetensors"
    result = tool("convert_checkpoint.py", tmp_path / "full.safetensors", "--encoder", "nano", "--half", "-o", half)
    assert result.returncode == 0, result.stderr
    facts = read_metadata(half)
    assert (facts["context"], facts["attention_scale"], facts["teacher"]) == ("k", "none", "dinov2_vitb14")
    assert half.stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    loaded = declip.build_encoder("nano", half)
    for name, tensor in encoder.clip.state_dict().items():
        torch.testing.assert_close(loaded.clip.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_model_is_exported_with_its_vocabulary(tool, tiny_config, tmp_path):
    torch.save({"model": build_model(get_catseg_cfg(tiny_config)).state_dict()}, tmp_path / "model.pth")
    common = ["--config-file", tiny_config, "--weights", tmp_path / "model.pth"]
    result = tool("export.py", *common, "--output", tmp_path / "seg.pt2", "--classes", "grass", "red ring")
    assert result.returncode == 0, result.stderr
    assert torch.export.load(tmp_path / "seg.pt2").module()(torch.rand(1, 3, 32, 32) * 255).shape == (1, 2, 16, 16)
    result = tool("export.py", *common, "--output", tmp_path / "seg.pt2")
    assert result.returncode == 2 and "with the --classes" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "coco").is_dir(), reason="the real samples are not here")
def test_real_images_go_through_both_evaluations(tool, python, environment, monkeypatch, tmp_path):
    monkeypatch.setitem(environment, "DETECTRON2_DATASETS", str(SHARED))
    monkeypatch.setitem(environment, "OMP_NUM_THREADS", "2")
    encoder = ["--encoder", "EVA02-B-16", "--weights", "random", "--prompts", "name", "--precision", "bf16"]
    result = tool("eval_dense.py", *encoder, "--datasets", "ade150", "--output", tmp_path / "dense", launcher=python)
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads((tmp_path / "dense/results.json").read_text())["qk"]
    panoptic = next((SHARED / "coco").rglob("panoptic*.json"))
    images = next(path.parent for path in (SHARED / "coco").rglob("*.jpg"))
    masks = next(path.parent for path in (SHARED / "coco").rglob("*.png"))
    options = ["--regions", panoptic, "--image-root", images, "--panoptic-root", masks, "--sides", 224]
    result = tool("eval_regions.py", *encoder, *options, "--output", tmp_path / "regions", launcher=python)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(json.loads((tmp_path / "regions/results.json").read_text())) == 3


def test_affinities_compares_teachers_and_encoders(tool):
    result = tool("nano/affinities.py", "--scenes", 3, "--teachers", "pretrained", "random", "--encoders", "nano-clip")
    assert result.returncode == 0, result.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines()[2:]]
    auroc = {row[0]: float(row[1]) for row in rows}
    assert list(auroc) == ["nano-vfm, pretrained", "nano-vfm, random", "nano-clip, vanilla"]
    assert 0.5 < auroc["nano-vfm, random"] < auroc["nano-vfm, pretrained"] < 1
