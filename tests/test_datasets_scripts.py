"""The preparation command lines, as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "datasets"
SCRIPTS = sorted(FOLDER.glob("prepare_*.py"))


def run(script, *arguments, root=None):
    environment = {**os.environ, **({"DETECTRON2_DATASETS": str(root)} if root else {})}
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_there_is_a_script_for_every_benchmark():
    assert len(SCRIPTS) == 11


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_states_source_tree_output_and_licence(script):
    text = script.read_text()
    assert all(f"\n{heading}" in text for heading in ("Source", "Expects", "Writes", "Licence"))


def test_a_script_prepares_and_the_check_ends_with_a_status(tmp_path):
    for folder, suffix, array in (
        ("coco/val2017", ".jpg", np.zeros((4, 4, 3), np.uint8)),
        ("coco/stuffthingmaps/val2017", ".png", np.zeros((4, 4), np.uint8)),
    ):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(array).save(tmp_path / folder / f"1{suffix}")
    result = run("prepare_coco_object.py", "--workers", 1, root=tmp_path)
    assert result.returncode == 0 and "coco/annotations_object/val2017: 1 files made" in result.stdout, result.stderr
    check = run("check_datasets.py", "--quick", root=tmp_path)
    assert check.returncode == 2 and "1 images instead of 5000" in check.stdout


def test_bad_input_ends_with_one_sentence(tmp_path):
    missing = run("prepare_voc.py", "--root", tmp_path / "gone")
    assert (
        missing.returncode == 2
        and "does not exist: give a folder" in missing.stderr
        and "Traceback" not in missing.stderr
    )
    incomplete = run("prepare_cityscapes.py", "--root", tmp_path)
    assert incomplete.returncode == 2 and "unpack gtFine_trainvaltest.zip" in incomplete.stderr
    unknown = run("check_datasets.py", "voc", root=tmp_path)
    assert unknown.returncode == 2 and "dataset 'voc' is unknown: choose among" in unknown.stderr


def test_preparation_imports_neither_torch_nor_scipy():
    rooms = "ade20k, check, check_detection, cityscapes, coco, command, detection, panoptic, pascal"
    heavy = ["torch", "torchvision", "timm", "open_clip", "scipy", "matplotlib"]
    code = f"import sys; from declip.data.preparation import {rooms}; print([n for n in {heavy} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
