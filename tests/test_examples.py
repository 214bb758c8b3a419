"""The examples in docstrings run and show what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOTS = {
    "d2host": ".",
    "catseg": ".",
    "declip": "projects/DeCLIP",
    "fvit": "projects/FViT",
    "nanoworld": "projects/NanoWorld",
}
MODULES = [
    ".".join(path.relative_to(REPOSITORY / root).with_suffix("").parts).removesuffix(".__init__")
    for package, root in ROOTS.items()
    for path in sorted((REPOSITORY / root / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert results.attempted and not results.failed
