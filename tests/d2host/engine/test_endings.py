"""What ends a training: a person, a scheduler, the system, a fault of one of its processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.running import several_processes

PROGRAM = Path(__file__).parent / "line_program.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
STARTING = 200  # seconds, on a machine that does other things, too


@pytest.fixture
def program(tmp_path):
    """Starts the training, sends a signal once each process trains, and says how the training ended."""
    started = []

    def run(*options, launcher=(), number=None, target="parent", processes=1):
        running = subprocess.Popen(
            [sys.executable, *launcher, PROGRAM, tmp_path, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(running)
        if number is not None:
            deadline = time.monotonic() + STARTING
            while len(pids := [path.read_text() for path in tmp_path.glob("*.pid")]) < processes or not all(pids):
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            if target == "group":
                os.killpg(running.pid, number)
            else:
                os.kill(running.pid if target == "parent" else int((tmp_path / f"{target}.pid").read_text()), number)
        out, err = running.communicate(timeout=STARTING if number in (None, signal.SIGTERM) else 30)
        sentences = [line for line in err.splitlines() if line.startswith(("error:", "interrupted:", "terminated:"))]
        return subprocess.CompletedProcess(running.args, running.returncode, out, err), sentences

    yield run
    for running in started:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()


def nothing_is_left(folder):
    return not any(os.path.exists(f"/proc/{path.read_text()}") for path in folder.glob("*.pid"))


def test_a_terminated_training_saves_after_its_step_and_goes_on_from_there(program, tmp_path):
    ended, sentences = program("--workers", 1, number=signal.SIGTERM)
    (saved,) = tmp_path.glob("model_*.pth")
    assert ended.returncode == 143 and "Traceback" not in ended.stderr
    assert len(sentences) == 1 and str(saved) in sentences[0]
    done = torch.load(saved, weights_only=True)["training"]["iteration"] + 1
    resumed, _ = program("--resume", "--iterations", done + 1)
    assert resumed.returncode == 0 and f"from iteration {done}" in resumed.stdout
    assert (tmp_path / "model_final.pth").is_file()


@pytest.mark.parametrize(
    ("options", "number", "status"),
    [
        (("--evaluate",), signal.SIGTERM, 143),
        pytest.param(("--evaluate",), signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param((), signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_what_has_nothing_to_save_ends_at_once(options, number, status, program, tmp_path):
    ended, sentences = program(*options, number=number)
    assert ended.returncode == status and len(sentences) == 1 and "Traceback" not in ended.stderr
    assert not [*tmp_path.glob("model_*")]


@several_processes
def test_a_process_that_is_killed_ends_the_others_and_is_named(program, tmp_path):
    ended, sentences = program("--num-gpus", 2, "--fault", "killed")
    assert ended.returncode == 2 and "Traceback" not in ended.stderr + ended.stdout
    assert len(sentences) == 1 and "process 1 of 2 was killed by SIGKILL" in sentences[0]
    assert nothing_is_left(tmp_path)


@several_processes
@pytest.mark.slow
@pytest.mark.parametrize("target", ["parent", "group", "0", "1"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, 2)])
def test_whichever_process_a_signal_reaches_all_end_with_one_sentence(target, number, status, program, tmp_path):
    if number == signal.SIGKILL and not target.isdecimal():
        pytest.skip("nobody is left to say a word")
    ended, sentences = program("--num-gpus", 2, "--workers", 1, number=number, target=target, processes=2)
    assert ended.returncode == status and len(sentences) == 1 and "Traceback" not in ended.stderr + ended.stdout
    assert nothing_is_left(tmp_path)
    assert len([*tmp_path.glob("model_*.pth")]) == (number == signal.SIGTERM)


@several_processes
@pytest.mark.slow
def test_ranks_whose_parent_was_killed_save_and_end(program, tmp_path):
    program("--num-gpus", 2, number=signal.SIGKILL, processes=2)
    deadline = time.monotonic() + 30
    while not nothing_is_left(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert nothing_is_left(tmp_path) and len([*tmp_path.glob("model_*.pth")]) == 1


@several_processes
@pytest.mark.slow
@pytest.mark.parametrize("target", ["parent", "1"])
@pytest.mark.parametrize("options", [(), ("--evaluate",)])
def test_torchrun_is_obeyed(target, options, program, tmp_path):
    """A termination of torchrun reaches all ranks; that of one rank ends all after the same step."""
    if options:
        target = "parent"
    ended, sentences = program(*options, launcher=TORCHRUN, number=signal.SIGTERM, target=target, processes=2)
    assert ended.returncode != 0 and len(sentences) == 1 and sentences[0].startswith("terminated:")
    assert len([*tmp_path.glob("model_*.pth")]) == (0 if options else 1)
    assert nothing_is_left(tmp_path)


@several_processes
@pytest.mark.slow
def test_a_rank_of_torchrun_that_is_killed_ends_the_others_in_a_sentence(program, tmp_path):
    ended, sentences = program(launcher=TORCHRUN, number=signal.SIGKILL, target="1", processes=2)
    assert ended.returncode != 0 and "Signal 9 (SIGKILL)" in ended.stderr
    assert all("another process of the run has ended" in sentence for sentence in sentences)
    assert nothing_is_left(tmp_path)


@several_processes
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [("sentence", 2, "error: image a.jpg is unreadable: replace it"), ("defect", 1, "ZeroDivisionError")],
)
def test_a_fault_of_one_process_ends_all(fault, status, said, program, tmp_path):
    ended, _ = program("--num-gpus", 2, "--fault", fault)
    assert ended.returncode == status and said in ended.stderr
    assert ("Traceback" in ended.stderr) == (fault == "defect")
    assert nothing_is_left(tmp_path)


@several_processes
@pytest.mark.slow
def test_a_process_that_hangs_while_another_failed_is_killed(program, tmp_path):
    ended, sentences = program("--num-gpus", 2, "--fault", "hang", number=signal.SIGKILL, target="0", processes=2)
    assert ended.returncode == 2 and "process 0 of 2 was killed by SIGKILL" in sentences[0]
    assert nothing_is_left(tmp_path)
