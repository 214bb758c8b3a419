"""The training command line, as a user runs it: in processes of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.running import several_processes

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools/train_net.py"


@pytest.fixture(scope="module")
def finished(tool, python, tiny_config, tmp_path_factory):
    """A run from beginning to end, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = ["--config-file", tiny_config, "OUTPUT_DIR", folder, "TEST.VISUALIZE", 1]
    result = tool("train_net.py", *arguments, launcher=python)
    assert result.returncode == 0, result.stderr
    return folder


def metrics(folder):
    return json.loads((folder / "inference" / "results.json").read_text())["nano_val"]


def test_a_run_leaves_checkpoints_metrics_results_and_pictures(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert {"model_final.pth", "last_checkpoint", "config.yaml", "metrics.json", "inference/results.md"} <= names
    assert any(name.endswith(".png") for name in names)
    assert metrics(finished)["mIoU"] >= 0


def test_evaluating_the_checkpoint_gives_the_same_figures(finished, tool, tiny_config, tmp_path):
    weights = finished / "model_final.pth"
    result = tool(
        "train_net.py", "--config-file", tiny_config, "--eval-only", "OUTPUT_DIR", tmp_path, "MODEL.WEIGHTS", weights
    )
    assert result.returncode == 0, result.stderr
    assert metrics(tmp_path) == metrics(finished)


def test_a_killed_run_goes_on_exactly_where_its_last_checkpoint_was(
    finished, tool, python, tiny_config, environment, losses, tmp_path
):
    arguments = ["train_net.py", "--config-file", str(tiny_config)]
    killed = subprocess.Popen(
        [sys.executable, str(TRAIN_NET), *arguments[1:], "OUTPUT_DIR", str(tmp_path)],
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
    result = tool(*arguments, "--resume", "OUTPUT_DIR", tmp_path, launcher=python)
    assert result.returncode == 0, result.stderr
    assert "Resumed from" in result.stdout + result.stderr
    assert metrics(tmp_path) == metrics(finished)
    whole, resumed = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"] for folder in (finished, tmp_path)
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    ours, theirs = losses(tmp_path), losses(finished)
    assert ours[max(theirs)] == theirs[max(theirs)]


@several_processes
@pytest.mark.parametrize("launcher", ["--num-gpus", "torchrun"])
def test_two_processes_give_the_losses_of_one(finished, launcher, tool, python, tiny_config, losses, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = tool(
        "train_net.py",
        *("--config-file", tiny_config, *(("--num-gpus", 2) if launcher == "--num-gpus" else ())),
        *("OUTPUT_DIR", tmp_path),
        launcher=torchrun if launcher == "torchrun" else python,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = losses(finished), losses(tmp_path)
    assert two.keys() == one.keys()
    for iteration in one:
        assert two[iteration] == pytest.approx(one[iteration], rel=1e-4)


def test_a_finished_run_is_not_overwritten(finished, tool, tiny_config):
    result = tool("train_net.py", "--config-file", tiny_config, "OUTPUT_DIR", finished)
    assert result.returncode == 2
    assert "add --resume to go on with it, or give another OUTPUT_DIR" in result.stderr


def test_a_finished_run_keeps_its_config_when_another_is_refused(finished, tool, tiny_config):
    before = (finished / "config.yaml").read_text()
    assert tool("train_net.py", "--config-file", tiny_config, "SEED", 9, "OUTPUT_DIR", finished).returncode == 2
    assert (finished / "config.yaml").read_text() == before


def test_an_evaluation_takes_the_newest_checkpoint_where_no_weights_are_named(finished, tool, tiny_config, tmp_path):
    common = ["--config-file", tiny_config, "--eval-only", "MODEL.ENCODER.WEIGHTS", ""]
    result = tool("train_net.py", *common, "OUTPUT_DIR", finished)
    assert result.returncode == 0 and "Weights of" in result.stdout and "mIoU" in result.stdout, result.stderr
    nothing = tool("train_net.py", *common, "OUTPUT_DIR", tmp_path)
    assert nothing.returncode == 2 and "holds no checkpoint: train first, or give MODEL.WEIGHTS" in nothing.stderr


@several_processes
def test_an_error_of_a_rank_is_one_sentence(tool, python, tiny_config, tmp_path):
    arguments = ["--num-gpus", 2, "--config-file", tiny_config, "DATASETS.TRAIN", "('ade',)", "OUTPUT_DIR", tmp_path]
    result = tool("train_net.py", *arguments, launcher=python)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: dataset 'ade' is not registered")


def test_an_interrupt_says_how_to_go_on(tiny_config, environment, tmp_path):
    running = subprocess.Popen(
        [
            *(sys.executable, str(TRAIN_NET), "--config-file", str(tiny_config)),
            *("OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "100000"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell without job control starts background commands, these tests perhaps, with interrupts ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "last_checkpoint").is_file() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    try:
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert stderr.strip().endswith("interrupted: a training goes on from its last checkpoint with --resume")


BAD_INPUT = {
    "missing config": (["--config-file", "nothing.yaml"], "config file nothing.yaml does not exist"),
    "unknown key": (["SOLVER.SPEED", "1"], "SOLVER.SPEED"),
    "unknown encoder": (["MODEL.ENCODER.NAME", "ViT-B-17"], "ViT-B-17"),
    "missing dataset": (["DATASETS.TEST", "('ade20k_150_test_sem_seg',)", "--eval-only"], "ADEChallengeData2016.zip"),
    "unregistered dataset": (["DATASETS.TRAIN", "('ade',)"], "dataset 'ade' is not registered"),
    "nothing to evaluate on": (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST names no dataset to evaluate on"),
    "endless warm-up": (["SOLVER.WARMUP_ITERS", "6"], "SOLVER.WARMUP_ITERS 6 is not below SOLVER.MAX_ITER 6"),
    "key nobody reads": (["SOLVER.GAMMA", "0.5"], "SOLVER.GAMMA is not a key of this program"),
    "several machines": (["--num-machines=2"], "start several machines with torchrun"),
    "missing weights": (["--eval-only", "MODEL.WEIGHTS", "gone.pth"], "checkpoint gone.pth does not exist"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_ends_with_one_sentence(case, finished, tool, tiny_config, tmp_path):
    arguments, sentence = BAD_INPUT[case]
    options = [argument for argument in arguments if argument.startswith("--") and argument != "--config-file"]
    overrides = [argument for argument in arguments if argument not in options]
    config = [] if "--config-file" in arguments else ["--config-file", tiny_config]
    weights = ["MODEL.WEIGHTS", finished / "model_final.pth"] if "--eval-only" in options else []
    result = tool("train_net.py", *config, *options, *weights, *overrides, "OUTPUT_DIR", tmp_path)
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_checkpoint_of_another_model_is_refused(finished, tool, tiny_config, tmp_path):
    result = tool(
        *("train_net.py", "--config-file", tiny_config, "--eval-only", "OUTPUT_DIR", tmp_path),
        *("MODEL.WEIGHTS", finished / "model_final.pth", "MODEL.SEM_SEG_HEAD.HIDDEN_DIM", 16),
    )
    assert result.returncode == 2
    assert "is of another model than the config describes" in result.stderr


def test_help_lists_options_and_examples(tool, python):
    result = tool("train_net.py", "--help", launcher=python)
    assert result.returncode == 0
    for text in ("--config-file", "--eval-only", "--resume", "--num-gpus", "declip_catseg_nano.yaml"):
        assert text in result.stdout
