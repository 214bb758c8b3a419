from pathlib import Path

import pytest

from tests.running import run_program

pytest_plugins = ["tests.small_encoders"]


@pytest.fixture(scope="session")
def run_here():
    """A function that runs a program in this process, see :func:`tests.running.run_program`."""
    return run_program


@pytest.fixture(scope="session")
def repository():
    return Path(__file__).resolve().parents[1]
