"""A student that no process holds whole (FSDP), as docs/scale.md has it, learns as one that is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.running import several_processes

PROGRAM = Path(__file__).parent / "sharded_program.py"


@several_processes
@pytest.mark.slow
def test_a_student_sharded_over_two_processes_learns_like_a_whole_one(tmp_path):
    for processes in (1, 2):
        result = subprocess.run([sys.executable, PROGRAM, str(processes), tmp_path], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
    whole, *parts = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-0.pt", "2-1.pt"))
    for part in parts:
        assert part["losses"] == pytest.approx(whole["losses"], rel=1e-4)
        assert part["held"] < 0.55 * whole["whole"]
    assert whole["held"] == whole["whole"] and len({*whole["losses"]}) == 3
