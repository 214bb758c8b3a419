import pickle

import pytest

from d2host.engine.errors import CheckpointError, ConfigError, DataError, DeclipError, TrainingError


def test_every_error_is_one_family():
    assert issubclass(ConfigError, DeclipError) and issubclass(ConfigError, ValueError)


@pytest.mark.parametrize("kind", [DeclipError, ConfigError, DataError, CheckpointError, TrainingError])
def test_an_error_is_the_same_after_a_journey_between_processes(kind):
    arrived = pickle.loads(pickle.dumps(kind("image a.jpg is unreadable: replace it")))
    assert type(arrived) is kind and str(arrived) == "image a.jpg is unreadable: replace it"
