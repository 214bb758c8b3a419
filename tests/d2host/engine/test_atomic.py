import errno
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2host.engine.atomic import replacing, sweep
from d2host.engine.checkpoint import write_atomically
from d2host.engine.errors import DeclipError, OutputError
from declip.weights.files import save_tensors


def test_a_block_that_succeeds_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "file.json"
    for content in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_text(content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("first")
    with pytest.raises(ValueError, match="broken"), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError("broken")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_have_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    path = save_tensors({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors", {})
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def writers():
    """Everything that leaves a file by a name, and the file."""
    from matplotlib.figure import Figure
    from PIL import Image

    from declip.evaluation.results import write_csv, write_json, write_results

    yield "text", lambda path: write(path, lambda temporary: temporary.write_text("new" * 10_000))
    yield (
        "picture",
        lambda path: write(path, lambda temporary: Image.new("RGB", (256, 256), "red").save(temporary, "bmp")),
    )
    yield "figure", lambda path: write(path, lambda temporary: Figure().savefig(temporary, format="png"))
    yield "json", lambda path: write_json(path, ["new"] * 10_000)
    yield "csv", lambda path: write_csv(path, ["new"], [[1]] * 10_000)
    yield "results", lambda path: write_results(path.parent, ["new"], [[1]] * 10_000, {"new": 1})
    yield "weights", lambda path: save_tensors({"weight": torch.zeros(10_000)}, path, {})
    yield "checkpoint", lambda path: write_atomically(path, lambda file: torch.save(torch.zeros(10_000), file))


def write(path, content):
    with replacing(path) as temporary:
        content(temporary)


WRITERS = dict(writers())


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_ends_with_a_sentence_and_keeps_what_was_there(name, tmp_path):
    path = tmp_path / "results.md"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DeclipError, match=r"results\.md.*[Ff]ile too large.*: free"):
            WRITERS[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


PLACES = {
    "a file for a folder": lambda folder: (folder / "file").touch() or folder / "file" / "results.md",
    "a dangling link for a folder": lambda folder: (
        (folder / "link").symlink_to("gone") or folder / "link" / "results.md"
    ),
    "a folder for a file": lambda folder: (folder / "results.md" / "full").mkdir(parents=True) or folder / "results.md",
    "a name that is too long": lambda folder: folder / ("long" * 100) / "results.md",
    "no place of files": lambda folder: Path("/proc/none/results.md"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_cannot_be_written_to_ends_with_a_sentence(name, place, tmp_path):
    path = PLACES[place](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DeclipError, match=r"results\.md.*: free"):
        WRITERS[name](path)
    assert sorted(tmp_path.rglob("*")) == before


OPERATIONS = ["touch", "stat", "chmod", "fsync", "replace"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_whatever_the_system_refuses_is_one_sentence(operation, code, tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    path.write_text("old")

    def refuse(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path if operation in ("touch", "stat") else os, operation, refuse)
    sentence = rf"file\.json could not be written \({os.strerror(code)}\): free disk space"
    with pytest.raises(OutputError, match=sentence), replacing(path, durable=True) as temporary:
        temporary.write_text("new")
    monkeypatch.undo()
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_what_dead_processes_left_is_swept_and_what_living_ones_write_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = platform.node().partition(".")[0][:32]
    dead = [f".model_0000001.{machine}-{ended.pid}.part.pth", f".a.b.{ended.pid}.part.pth", f".last.{ended.pid}.part"]
    dead += [
        f".own.{machine}-{os.getpid()}.part.json",
        f".far.{machine}-{10**12}.part.json",
        ".old.elsewhere-1.part.pth",
    ]
    living = [f".model_0000001.{machine}-{os.getppid()}.part.pth", ".new.elsewhere-1.part.pth"]
    others = [".part", ".x.part.pth", "model.12.part.pth", ".x.12.part.d.pth", ".config", "model_final.pth"]
    for name in [*dead, *living, *others]:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".old.elsewhere-1.part.pth", (1e9, 1e9))
    assert {path.name for path in sweep(tmp_path)} == set(dead)
    assert {path.name for path in tmp_path.iterdir()} == {*living, *others}


def test_a_process_that_is_killed_leaves_what_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from d2host.engine.atomic import replacing\n"
        "with replacing(sys.argv[1]) as part: part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file.json")])
    assert len(list(tmp_path.iterdir())) == 1
    assert len(sweep(tmp_path)) == 1 and not list(tmp_path.iterdir())
