"""What command lines cost before they do anything: no torch for their options, none at all for preparing data."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from declip.evaluation.regions import RegionMethod

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "tools").rglob("*.py"))
PREPARATION = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "datasets").glob("*.py"))
PROBE = """
import runpy, sys
programs = sys.argv[1:]
for program in programs:
    sys.argv = [program, "--help"]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        assert not end.code, (program, end.code)
    assert "torch" not in sys.modules, f"{program} imports torch"
"""


@pytest.mark.parametrize("programs", [PROGRAMS, PREPARATION], ids=["tools", "preparation"])
def test_help_imports_no_torch(programs):
    assert len(programs) >= 4
    result = subprocess.run([sys.executable, "-c", PROBE, *programs], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: ") == len(programs)


def test_choices_that_are_written_out_are_those_there_are():
    spec = importlib.util.spec_from_file_location("eval_regions", REPOSITORY / "tools/eval_regions.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert tuple(program.METHODS) == tuple(method.value for method in RegionMethod)
