"""Processes of a run: what ends one ends all, and what a user can mend arrives as the exception it is."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from d2host.engine import distributed
from d2host.engine.distributed import launch
from d2host.engine.errors import ConfigError, DataError, TrainingError
from tests.running import several_processes


@pytest.fixture
def ranks(monkeypatch):
    """The module ``ranks`` beside this one, where started processes find it, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("ranks")


@several_processes
def test_an_error_of_a_rank_arrives_as_the_object_it_is_and_ends_the_others(ranks, tmp_path):
    with pytest.raises(DataError) as caught:
        launch(ranks.fail_on_rank_1, 2, (tmp_path,))
    assert type(caught.value) is DataError and str(caught.value) == "image a.jpg is unreadable: replace it"
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids)


@several_processes
def test_a_defect_of_a_rank_keeps_its_traceback(ranks):
    with pytest.raises(Exception, match="in divide_by_zero"):
        launch(ranks.divide_by_zero, 2)


@several_processes
def test_a_rank_that_resolves_another_host_refuses(ranks, monkeypatch):
    monkeypatch.setenv("D2HOST", "detectron")
    with pytest.raises(ConfigError, match="D2HOST='detectron' is not a host"):
        launch(ranks.divide_by_zero, 2)


@pytest.mark.parametrize("number", [-1000, -1, 0, 1000, 10**9])
def test_a_number_of_processes_that_cannot_be_is_refused(number, ranks):
    with pytest.raises(ConfigError, match=rf"--num-gpus {number} is impossible here: .* 1 to \d+"):
        launch(ranks.divide_by_zero, number)


WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
WHOLE |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
RUBBISH = ["", "-1", "one", "1.5", "0x1", "١", " ", "99999999999999999999"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *[(name, value) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT") for value in (None, *RUBBISH)],
        *[(name, value) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE") for value in RUBBISH],
        *[("RANK", "2"), ("RANK", "3"), ("WORLD_SIZE", "0"), ("LOCAL_RANK", "2"), ("LOCAL_WORLD_SIZE", "3")],
        *[("WORLD_SIZE", "3"), ("MASTER_PORT", "0"), ("MASTER_PORT", "65536"), ("MASTER_ADDR", None)],
    ],
)
def test_variables_that_describe_no_run_are_refused(variable, value, monkeypatch):
    for name, good in (WHOLE | {variable: value}).items():
        monkeypatch.delenv(name, raising=False) if good is None else monkeypatch.setenv(name, good)
    with pytest.raises(ConfigError, match=rf"{variable}.*: .*"):
        launch(pytest.fail, 1)


def test_a_number_of_processes_beside_torchruns_is_refused(monkeypatch):
    for name, good in WHOLE.items():
        monkeypatch.setenv(name, good)
    with pytest.raises(ConfigError, match="--num-gpus 3 under torchrun, which runs 2"):
        launch(pytest.fail, 3)


@several_processes
@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_never_come_are_not_waited_for_long(rank, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name, good in (WHOLE | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, good)
    monkeypatch.setattr(distributed, "JOINING", timedelta(seconds=1))
    with pytest.raises(TrainingError, match=rf"process {rank} of 2 could not join .*127.0.0.1:{port} within 1 s"):
        launch(pytest.fail)


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name, good in (WHOLE | {"MASTER_PORT": str(server.getsockname()[1])}).items():
            monkeypatch.setenv(name, good)
        monkeypatch.setattr(distributed, "JOINING", timedelta(seconds=1))
        with pytest.raises(TrainingError, match=rf"{server.getsockname()[1]}.*port that is free"):
            launch(pytest.fail)


PROGRAM = """
import os, sys, time
from pathlib import Path
from d2host import comm
from d2host.engine.distributed import launch

def sleep(folder):
    (Path(folder) / f"{comm.get_rank()}.pid").write_text(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    launch(sleep, 2, (sys.argv[1],))
"""


@several_processes
def test_an_interrupt_to_the_parent_alone_ends_every_rank(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while len(pids := [path.read_text() for path in tmp_path.glob("*.pid")]) < 2 or not all(pids):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=60)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_processes_that_could_not_find_each_other_again_are_refused(ranks, monkeypatch):
    for name, value in {**WHOLE, "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"--max-restarts.*: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        launch(ranks.divide_by_zero)
