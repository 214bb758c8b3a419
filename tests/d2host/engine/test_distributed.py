"""Processes of a run: what ends one ends all, and what a user can mend arrives as the exception it is."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2host.engine.distributed import launch
from d2host.engine.errors import ConfigError, DataError


@pytest.fixture
def ranks(monkeypatch):
    """The module ``ranks`` beside this one, where started processes find it, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("ranks")


def test_an_error_of_a_rank_arrives_as_the_object_it_is_and_ends_the_others(ranks, tmp_path):
    with pytest.raises(DataError) as caught:
        launch(ranks.fail_on_rank_1, 2, (tmp_path,))
    assert type(caught.value) is DataError and str(caught.value) == "image a.jpg is unreadable: replace it"
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_defect_of_a_rank_keeps_its_traceback(ranks):
    with pytest.raises(Exception, match="in divide_by_zero"):
        launch(ranks.divide_by_zero, 2)


def test_a_rank_that_resolves_another_host_refuses(ranks, monkeypatch):
    monkeypatch.setenv("D2HOST", "detectron")
    with pytest.raises(ConfigError, match="D2HOST='detectron' is not a host"):
        launch(ranks.divide_by_zero, 2)


def test_no_processes_are_no_processes(ranks):
    with pytest.raises(ConfigError, match="--num-gpus 0 is impossible here"):
        launch(ranks.divide_by_zero, 0)


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
