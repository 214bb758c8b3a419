"""Trainings that are killed at random moments and go on leave what undisturbed ones leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("KILLS", "50"))  # of each trainer


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["train_net.py", "train_declip.py", "nano/pretrain.py"])
def test_kills_at_random_moments_change_nothing(trainer):
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--kills", str(KILLS), "--trainers", trainer]
    result = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{KILLS} kills" in result.stdout
