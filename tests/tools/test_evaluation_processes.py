"""However many processes share the images, an evaluation leaves the same files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import several_processes

PROGRAM = Path(__file__).parent / "evaluation_program.py"
TOOLS = Path(__file__).parents[2] / "tools"


@several_processes
def test_two_processes_leave_what_one_does(environment, tiny_config, tmp_path):
    files = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        command = [sys.executable, PROGRAM, str(processes), folder, tiny_config]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-3000:]
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files.append({str(path.relative_to(folder)): path.read_bytes() for path in paths})
    one, two = files
    assert one.keys() == two.keys()
    for name, content in one.items():
        assert two[name] == content, name
    names = [*one]
    for wanted in (
        "dense/results.json",
        "regions/predictions.jsonl",
        "regions/per_class.csv",
        "catseg/inference/results.json",
    ):
        assert wanted in names
    assert sum(name.startswith("dense/qk/nano_val/predictions/") for name in names) == 7


@several_processes
@pytest.mark.slow
def test_each_process_of_a_command_has_a_log_of_its_own(environment, tmp_path):
    options = ["--encoder", "nano", "--weights", "nano-clip", "--methods", "boxes", "--prompts", "name"]
    options += ["--max-images", "2", "--num-gpus", "2", "--output", tmp_path]
    command = [sys.executable, TOOLS / "eval_regions.py", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("in percent:") == 1
    assert (tmp_path / "log.txt").read_text().count("in percent:") == 1
    assert "in percent:" not in (tmp_path / "log.txt.rank1").read_text()
