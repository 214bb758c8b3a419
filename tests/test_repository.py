"""The repository itself: linted, packaged whole, and its rooms in order."""

import ast
import configparser
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from d2host.engine.setup import LOGGERS

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = {
    "d2host": "d2host",
    "declip": "projects/DeCLIP/declip",
    "declip.configs": "projects/DeCLIP/configs",
    "nanoworld": "projects/NanoWorld/nanoworld",
    "nanoworld.configs": "projects/NanoWorld/configs",
    "catseg": "catseg",
    "fvit": "projects/FViT/fvit",
    "fvit.configs": "projects/FViT/configs",
}


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_the_code_is_linted_and_formatted(command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_command_lines_can_be_called_as_documentation_does():
    files = [file for room in ("tools", "datasets", "benchmarks") for file in sorted((REPOSITORY / room).rglob("*.py"))]
    commands = [file for file in files if file.read_text().startswith("#!")]
    assert not [file.name for file in commands if not os.access(file, os.X_OK)]
    called = {file.name for file in files if '"__main__"' in file.read_text()} - {"peer_catseg.py", "peer_declip.py"}
    assert called == {file.name for file in commands}


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    present = {
        ".".join((name, *path.parent.relative_to(REPOSITORY / source).parts))
        for name, source in SOURCES.items()
        for path in (REPOSITORY / source).rglob("__init__.py")
    }
    assert listed == present


def test_the_messages_of_every_room_are_shown():
    assert {name for name in SOURCES if "." not in name} <= {*LOGGERS}


def test_the_recipes_and_class_lists_that_the_code_reads_are_in_the_repository():
    assert list((REPOSITORY / "projects/DeCLIP/configs").glob("*.yaml"))
    assert (REPOSITORY / "projects/DeCLIP/declip/data/classes/ade20k_150.txt").is_file()


def modules():
    """Name → file of every module of the project, packages by their ``__init__``."""
    return {
        ".".join((name, *path.relative_to(REPOSITORY / source).with_suffix("").parts)).removesuffix(".__init__"): path
        for name, source in SOURCES.items()
        for path in (REPOSITORY / source).rglob("*.py")
    }


def imports(path, known):
    """The project's modules that a file imports, wherever in the file, unless for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    branches = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    ignored = {id(inner) for node in branches if "TYPE_CHECKING" in ast.dump(node.test) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found & set(known)


@pytest.fixture(scope="module")
def graph():
    """Module → the project's modules that it imports."""
    known = modules()
    return {name: imports(path, known) for name, path in known.items()}


def circle(arrows):
    """What imports itself by way of others, in a sentence; empty if nothing does."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return " imports ".join(reversed(error.args[1]))
    return ""


def test_a_circle_of_imports_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == ""
    assert circle({"a": {"b"}, "b": {"a"}}) in ("a imports b imports a", "b imports a imports b")


def test_modules_import_in_one_direction(graph):
    """No circle, not even one that a late import would hide."""
    assert circle(graph) == ""


def test_rooms_import_in_one_direction(graph):
    """No circle either between folders, with all that is below them, and the files beside them.

    The seam is no such folder: it raises the engine's errors, and the engine stands on it.
    """
    rooms = {module: ".".join(module.split(".")[:2]) for module in graph if not module.startswith("d2host")}
    arrows = {room: set() for room in rooms.values()}
    for module, room in rooms.items():
        arrows[room] |= {rooms[other] for other in graph[module] if other in rooms} - {room}
    assert circle(arrows) == ""


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("d2host", {"declip", "catseg", "fvit", "nanoworld"}),
        ("declip", {"catseg", "fvit", "nanoworld"}),
        ("catseg", {"fvit", "nanoworld"}),
        ("fvit", {"catseg", "nanoworld"}),
    ],
)
def test_rooms_import_what_lies_below_them(room, forbidden, graph):
    arrows = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if module.split(".")[0] == room and other.split(".")[0] in forbidden
    ]
    assert not arrows
