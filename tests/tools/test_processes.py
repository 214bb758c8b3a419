"""However a batch is shared, over processes or over steps, a training is the same: in float64, where rounding is small.

In float32 the rounding of another order of sums grows over iterations, as it does between one thread and two.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.running import several_processes

PROGRAM = Path(__file__).parent / "equal_program.py"


@pytest.fixture(scope="module")
def train(tiny_config, environment, tmp_path_factory):
    """Runs all trainings; returns the last gradient norm and the weights of each by name."""
    parent = tmp_path_factory.mktemp("equal")
    (parent / "tiny.yaml").write_text(tiny_config.read_text())

    def run(processes, steps):
        folder = parent / f"{processes}-{steps}"
        folder.mkdir()
        command = [sys.executable, PROGRAM, str(processes), str(steps), folder]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
        return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}

    return run


@pytest.fixture(scope="module")
def whole(train):
    return train(processes=1, steps=1)


@several_processes
@pytest.mark.slow
@pytest.mark.parametrize(("processes", "steps", "trainings"), [(2, 1, 4), (1, 2, 2), (2, 2, 2)])
def test_a_batch_that_is_shared_trains_like_a_whole_one(processes, steps, trainings, whole, train):
    shared = train(processes, steps)
    assert len(shared) == trainings
    for name, result in shared.items():
        assert result["grad_norm"] == pytest.approx(whole[name]["grad_norm"], rel=1e-10), name
        torch.testing.assert_close(result["weights"], whole[name]["weights"], rtol=0, atol=1e-10)
