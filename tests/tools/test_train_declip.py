"""The distillation command line, as a user runs it."""

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from declip.weights.files import read_metadata
from tests.running import several_processes

TRAIN_DECLIP = Path(__file__).resolve().parents[2] / "tools/train_declip.py"
TINY = [
    *("--config-file", "distill_nano.yaml", "MODEL.DEVICE", "cpu", "DATASETS.IMAGES", "nano_val"),
    *("INPUT.STUDENT_SIZE", "64", "INPUT.MAX_SPLIT", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "6"),
    *("SOLVER.WARMUP_ITERS", "1", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "6", "TEST.MAX_IMAGES", "4"),
]


@pytest.fixture(scope="module")
def finished(tool, python, tmp_path_factory):
    """A run from beginning to end, in a process of its own."""
    folder = tmp_path_factory.mktemp("distilled")
    result = tool("train_declip.py", *TINY, "OUTPUT_DIR", folder, launcher=python)
    assert result.returncode == 0, result.stderr
    return folder


def test_a_run_leaves_weights_that_say_how_they_were_made(finished):
    facts = read_metadata(finished / "declip.safetensors")
    assert (facts["model"], facts["context"], facts["iterations"]) == ("nano", "qk", 6)
    assert facts["terms"] == ["content", "context"]
    assert {"teacher", "config_hash", "student_size", "ensemble_alpha"} <= facts.keys()


def test_a_run_logs_losses_and_region_classification(finished):
    lines = [json.loads(line) for line in (finished / "metrics.json").read_text().splitlines()]
    merged = {key: value for line in lines for key, value in line.items()}
    assert {"loss_content", "loss_context", "total_loss", "images_per_second", "regions/things_mAcc"} <= merged.keys()


def test_the_weights_load_in_segmentation_by_one_line(finished, tool, tiny_config, tmp_path):
    result = tool(
        *("train_net.py", "--config-file", tiny_config, "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", "1"),
        *("DATASETS.TEST", "()", "MODEL.ENCODER.WEIGHTS", finished / "declip.safetensors"),
    )
    assert result.returncode == 0, result.stderr


def test_eval_only_repeats_the_region_classification_of_the_newest_checkpoint(finished, tool, tmp_path):
    lines = [json.loads(line) for line in (finished / "metrics.json").read_text().splitlines()]
    measured = {key: value for line in lines for key, value in line.items()}["regions/stuff_mAcc"]
    result = tool("train_declip.py", "--eval-only", *TINY, "OUTPUT_DIR", finished)
    assert result.returncode == 0 and f"{measured:.4f}" in result.stdout + result.stderr, result.stderr
    nothing = tool("train_declip.py", "--eval-only", *TINY, "OUTPUT_DIR", tmp_path)
    assert nothing.returncode == 2 and "holds no checkpoint" in nothing.stderr


def test_a_killed_run_ends_with_the_same_weights_and_metrics(finished, tool, python, environment, losses, tmp_path):
    killed = subprocess.Popen(
        [sys.executable, str(TRAIN_DECLIP), *TINY, "OUTPUT_DIR", str(tmp_path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "last_checkpoint").is_file() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "model_final.pth").exists(), "the run was over before it could be killed"
    result = tool("train_declip.py", "--resume", *TINY, "OUTPUT_DIR", tmp_path, launcher=python)
    assert result.returncode == 0, result.stderr
    whole, resumed = (load_file(folder / "declip.safetensors") for folder in (finished, tmp_path))
    assert all((whole[name] == resumed[name]).all() for name in whole)
    assert losses(tmp_path)[5] == losses(finished)[5]


def test_a_run_goes_on_where_it_left_the_shards(finished, tool, datasets_root, losses, tmp_path):
    """With other numbers of workers, and from the middle of shards."""
    images = sorted(datasets_root.rglob("nano/val/images/*"))[:10]
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as file:
            for image in images[shard::3]:
                file.add(image, image.name)
    shards = [*TINY, "DATASETS.IMAGES", f"{tmp_path}/{{0..2}}.tar"]
    assert tool("train_declip.py", *shards, "OUTPUT_DIR", tmp_path / "whole").returncode == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    (tmp_path / "resumed/last_checkpoint").write_text("model_0000003.pth")
    options = ("--resume", *shards, "OUTPUT_DIR", tmp_path / "resumed", "DATALOADER.NUM_WORKERS", "0")
    result = tool("train_declip.py", *options)
    assert result.returncode == 0, result.stderr
    whole, resumed = (load_file(tmp_path / folder / "declip.safetensors") for folder in ("whole", "resumed"))
    assert all((whole[name] == resumed[name]).all() for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "resumed")


@several_processes
def test_two_processes_give_the_losses_of_one(finished, tool, python, losses, tmp_path):
    result = tool("train_declip.py", "--num-gpus", 2, *TINY, "OUTPUT_DIR", tmp_path, launcher=python)
    assert result.returncode == 0, result.stderr[-3000:]
    assert losses(tmp_path)[5] == pytest.approx(losses(finished)[5], rel=1e-4)


def test_generalized_declip_takes_steps_with_the_shipped_teachers(tool, tmp_path):
    options = ("--config-file", "distill_v2_nano.yaml", *TINY[2:], "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0")
    result = tool("train_declip.py", *options, "OUTPUT_DIR", tmp_path)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    merged = {key: value for line in lines for key, value in line.items()}
    assert {"loss_content", "loss_context", "loss_region_correlation", "context/entropy_teacher"} <= merged.keys()
    assert read_metadata(tmp_path / "declip.safetensors")["diffusion"] == "nano-diffusion"


BAD_INPUT = {
    "no images named": (["DATASETS.IMAGES", ""], "DATASETS.IMAGES is empty"),
    "missing images": (["DATASETS.IMAGES", "gone"], "DATASETS.IMAGES is 'gone', which does not exist"),
    "grids that cannot match": (["INPUT.STUDENT_SIZE", "65"], "grids of student and teacher cannot match"),
    "context without feature": (["MODEL.ENCODER.CONTEXT", "vanilla"], "needs a context feature"),
    "unknown teacher": (["MODEL.TEACHER.NAME", "dinov9"], "teacher 'dinov9' is unknown"),
    "endless warm-up": (["SOLVER.WARMUP_ITERS", "1000"], "SOLVER.WARMUP_ITERS 1000 is not below SOLVER.MAX_ITER 6"),
    "not finite": (["SOLVER.BASE_LR", "1e30"], "the loss is not finite at iteration"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_ends_with_one_sentence(case, tool, tmp_path):
    overrides, sentence = BAD_INPUT[case]
    result = tool("train_declip.py", *TINY, *overrides, "OUTPUT_DIR", tmp_path)
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr.strip().splitlines()[-1]
