"""Whatever is given to a command line: it works, or it ends with status 2 and one sentence, and nothing is damaged."""

import random

import pytest

from tests.faults.cases import all_cases, bases
from tests.faults.commands import COMMANDS, arguments_of
from tests.faults.known import KNOWN
from tests.faults.outcomes import GOOD, run_case
from tests.faults.report import run_all
from tests.faults.values import VALUES

CASES = all_cases()
SLOW = ("export",)  # commands that take seconds where they succeed
SAMPLE = random.Random(18).sample([name for name in CASES if not name.startswith(SLOW)], 160)


def test_every_argument_of_every_command_line_has_a_kind():
    kinds = {}
    for command in COMMANDS.values():
        kinds.setdefault((command.path, command.subcommand), {}).update(command.kinds)
    for command in COMMANDS.values():
        missing = arguments_of(command).keys() - kinds[command.path, command.subcommand]
        assert not missing, f"{command.program}: say of what kind {missing} are in tests/faults/commands.py"
        assert {command.kinds[name] for name in command.kinds} <= VALUES.keys()


def test_there_are_thousands_of_cases():
    spoilt = [name for name in CASES if " spoilt " in name]
    assert len(spoilt) >= 1000 and len(CASES) - len(spoilt) >= 1000
    assert KNOWN.keys() <= CASES.keys()


@pytest.mark.parametrize("case", bases(), ids=lambda case: case.command)
def test_the_command_line_that_cases_change_succeeds(case, world, tmp_path):
    if case.command.startswith(SLOW):
        pytest.skip("seconds, see tests/tools")
    folder, environment = world
    assert run_case(case, folder, environment, tmp_path / "case").kind == "fine"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.xfail(strict=True, reason=KNOWN[n])) if n in KNOWN else n for n in SAMPLE],
)
def test_a_fault_ends_with_one_sentence(name, world, tmp_path):
    folder, environment = world
    outcome = run_case(CASES[name], folder, environment, tmp_path / "case")
    assert outcome.kind in GOOD, f"{outcome.kind}: {outcome.detail}"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_fault_ends_with_one_sentence_in_bounded_time_and_memory(command, world, tmp_path):
    folder, environment = world
    (tmp_path / "world").symlink_to(folder)
    names = [name for name, case in CASES.items() if case.command == command]
    outcomes = run_all(names, tmp_path, environment, jobs=1)
    bad = {name: f"{outcome.kind}: {outcome.detail}" for name, outcome in outcomes.items() if outcome.kind not in GOOD}
    known = {name for name in KNOWN if name in names}
    assert bad.keys() == known, {name: bad.get(name, "mended") for name in bad.keys() ^ known}
