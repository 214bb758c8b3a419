"""The small registered dataset that evaluations are tested on, too."""

from tests.declip.evaluation.conftest import records  # noqa: F401
