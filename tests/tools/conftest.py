import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_config import tiny_config as tiny_text

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def datasets_root(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(tiny_text())
    return path


@pytest.fixture(scope="session")
def environment(datasets_root):
    return {**os.environ, "DETECTRON2_DATASETS": str(datasets_root), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tool(environment, run_here, tmp_path_factory):
    """Runs a command line of ``tools/`` in an empty directory, as a user would but in this process.

    With a ``launcher`` (``python`` itself, torchrun) it has a process of its own: where processes, signals or a first
    import are what is tested.
    """

    def run(name, *arguments, launcher=()):
        folder, program = tmp_path_factory.mktemp("cwd"), REPOSITORY / "tools" / name
        if not launcher:
            return run_here(program, *arguments, env=environment, cwd=folder)
        command = [*launcher, str(program), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)

    return run


@pytest.fixture(scope="session")
def python():
    """The launcher of a process of its own."""
    return (sys.executable,)


@pytest.fixture(scope="session")
def losses():
    """Reads a run's losses by iteration."""

    def read(folder):
        lines = (json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines())
        return {line["iteration"]: (line["total_loss"], line["grad_norm"]) for line in lines if "total_loss" in line}

    return read
