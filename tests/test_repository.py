"""The repository itself: linted, packaged whole."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = {
    "d2host": "d2host",
    "declip": "projects/DeCLIP/declip",
    "declip.configs": "projects/DeCLIP/configs",
    "nanoworld": "projects/NanoWorld/nanoworld",
    "nanoworld.configs": "projects/NanoWorld/configs",
    "catseg": "catseg",
}


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_the_code_is_linted_and_formatted(command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    present = {
        ".".join((name, *path.parent.relative_to(REPOSITORY / source).parts))
        for name, source in SOURCES.items()
        for path in (REPOSITORY / source).rglob("__init__.py")
    }
    assert listed == present


def test_the_recipes_and_class_lists_that_the_code_reads_are_in_the_repository():
    assert list((REPOSITORY / "projects/DeCLIP/configs").glob("*.yaml"))
    assert (REPOSITORY / "projects/DeCLIP/declip/data/classes/ade20k_150.txt").is_file()
