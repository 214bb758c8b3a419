import pytest

from tests.faults.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder of valid files, and the environment that cases run in."""
    folder = tmp_path_factory.mktemp("world")
    return folder, make_world(folder)
