import os
import signal
import subprocess
import sys

import pytest

from d2host.engine.errors import ConfigError, OutputError
from d2host.engine.folder import LOCK, owned

HOLD = """
import sys, time, torch
from d2host.engine.folder import owned
with owned(sys.argv[1]):
    workers = iter(torch.utils.data.DataLoader(range(4), num_workers=1)) if "workers" in sys.argv else None
    print("has it", flush=True)
    time.sleep(60)
"""


def holder(folder, *options):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "has it\n"
    return process


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    first = holder(tmp_path / "run")
    try:
        with pytest.raises(ConfigError, match="another run writes to "), owned(tmp_path / "run", patience=0.1):
            pass
        with owned(tmp_path / "other"):
            pass
    finally:
        first.send_signal(signal.SIGTERM)
        first.wait()
    with owned(tmp_path / "run"):
        pass


def test_a_crash_releases_the_folder_though_its_loading_processes_live_on(tmp_path):
    first = holder(tmp_path, "workers")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    with owned(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_the_folder_is_free_after_a_failure(tmp_path):
    with pytest.raises(ValueError, match="failed"), owned(tmp_path):
        raise ValueError("failed")
    with owned(tmp_path, patience=0):
        pass


def test_what_dead_runs_left_half_written_is_removed_and_logged(tmp_path, caplog):
    caplog.set_level("INFO")
    parts = [tmp_path / ".model_0000001.99999999.part.pth", tmp_path / "inference" / "set" / ".a.99999999.part.png"]
    parts[1].parent.mkdir(parents=True)
    for part in parts:
        part.touch()
    with owned(tmp_path):
        assert not any(part.exists() for part in parts)
    assert caplog.text.count("left half-written") == 2


def test_what_safetensors_left_half_written_is_removed(tmp_path):
    (tmp_path / ".tmpJKNZrO").write_bytes(b"half of the weights")
    (tmp_path / ".tmpfile").write_bytes(b"of somebody")
    with owned(tmp_path):
        assert [path.name for path in tmp_path.glob(".tmp*")] == [".tmpfile"]


PLACES = {
    "a file": lambda path: path.touch(),
    "a dangling link": lambda path: path.symlink_to("gone"),
    "a pipe": os.mkfifo,
    "below a file": lambda path: path.parent.rmdir() or path.parent.touch(),
    "with a folder for a lock": lambda path: (path / LOCK).mkdir(parents=True),
    "with a dangling link for a lock": lambda path: path.mkdir() or (path / LOCK).symlink_to("gone"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_folder_to_write_to_is_refused(place, tmp_path):
    path = tmp_path / "parent" / "run"
    path.parent.mkdir()
    PLACES[place](path)
    with pytest.raises(OutputError, match=r"run could not be written \("), owned(path):
        pass


def test_a_folder_that_may_only_be_read_is_refused():
    with pytest.raises(OutputError, match=r"could not be written \("), owned("/proc/run"):
        pass
