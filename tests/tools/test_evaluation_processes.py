"""However many processes share the images, an evaluation leaves the same files."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "evaluation_program.py"


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
