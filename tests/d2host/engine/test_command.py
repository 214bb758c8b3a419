"""How a program ends, and what of its surroundings it does without. In processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2host import HOST

PROGRAM = """
import argparse, sys
from d2host.engine.command import run_command

def main(args):
    if "figure" in args.what:
        from matplotlib.figure import Figure
        Figure().savefig("figure.png")
    if "log" in args.what:
        from d2host import setup_logger
        logger = setup_logger()
    for number in range(args.lines):
        text = f"stra\\xdfe \\u6f22 \\udcff {number}"
        logger.info(text) if "log" in args.what else print(text)

parser = argparse.ArgumentParser()
parser.add_argument("what")
parser.add_argument("--lines", type=int, default=1)
if __name__ == "__main__":
    run_command(main, parser.parse_args())
"""


@pytest.fixture
def program(tmp_path):
    """Runs the program in a shell; ``{}`` in the line stands for it."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(line, **environment):
        command = line.format(f"{sys.executable} program.py")
        environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=120,
        )

    return run


OF_THE_EMBEDDED_HOST = pytest.mark.skipif(HOST.name != "embedded", reason="Detectron2 has its own terminal handler")


@pytest.mark.parametrize("what", ["print", pytest.param("log", marks=OF_THE_EMBEDDED_HOST)])
def test_a_reader_that_goes_away_ends_a_program_without_a_word(what, program):
    ended = program(f"{{}} {what} --lines 30000 | head -1")
    assert (ended.returncode, ended.stderr) == (141, b"") and b"stra" in ended.stdout


def test_names_beyond_the_letters_of_a_terminal_are_written_in_others(program):
    ended = program("{} print", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, rb"stra\xdfe \u6f22 \udcff 0", b"")


@pytest.mark.parametrize(
    "environment",
    [
        {"MPLBACKEND": "rubbish", "HOME": None, "LC_ALL": "C"},
        {"MPLBACKEND": "qtagg", "HOME": "/dev/null", "OMP_NUM_THREADS": "rubbish", "DISPLAY": None},
    ],
)
def test_figures_need_neither_window_nor_home(environment, program, tmp_path):
    assert program("{} figure <&-", **environment).returncode == 0
    assert (tmp_path / "figure.png").stat().st_size > 0


@pytest.mark.parametrize("line", ["{} log >&-", "{} print >&-", "{} print 2>&-", "{} print <&-"])
def test_a_stream_that_is_closed_is_done_without(line, program):
    assert program(line).returncode == 0


WINDOWS = """
import builtins, importlib, pkgutil, signal, sys, torch, open_clip, timm, torchvision, matplotlib.figure, scipy

OURS = ("d2host", "declip", "catseg", "nanoworld")
MISSING = {"fcntl", "resource", "grp", "pwd", "termios", "readline"}
usual = builtins.__import__

def windows_import(name, globals=None, *rest):
    if name.split(".")[0] in MISSING and (globals or {}).get("__name__", "").split(".")[0] in OURS:
        raise ModuleNotFoundError(f"No module named {name!r} on Windows")
    return usual(name, globals, *rest)

builtins.__import__ = windows_import
for name in ("SIGKILL", "SIGCHLD", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE", "pthread_sigmask", "sigwaitinfo"):
    delattr(signal, name)
for package in OURS:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if module.name != "d2host.real":
            importlib.import_module(module.name)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_where_windows_has_less():
    ended = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True, cwd=Path.home())
    assert ended.returncode == 0, ended.stderr
