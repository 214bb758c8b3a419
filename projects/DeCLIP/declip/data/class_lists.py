"""Class lists: plain text files, one class a line, synonyms separated by commas."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from d2host.engine.errors import DataError

CLASS_LISTS = Path(str(files("declip.data") / "classes"))


def load_class_list(name_or_path: str | Path) -> list[str]:
    """The classes of a list, in label order.

    >>> load_class_list("voc_20")[:3]
    ['aeroplane', 'bicycle', 'bird']

    Blank lines and lines that begin with ``#`` are skipped; ``a, b`` stays one class with its synonyms.

    Args:
        name_or_path: a file, or the name (without ``.txt``) of one of the package's.

    Raises:
        DataError: the file is missing or empty, or names a class twice.
    """
    path = Path(name_or_path)
    if path.suffix != ".txt":
        path = CLASS_LISTS / f"{name_or_path}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CLASS_LISTS.glob("*.txt")))
        raise DataError(f"class list {path} does not exist: give a text file, or one of the lists {known}")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    classes = [line for line in lines if line and not line.startswith("#")]
    twice = sorted({name for name in classes if classes.count(name) > 1})
    if not classes or twice:
        trouble = f"names {', '.join(twice)} twice" if twice else "names no class"
        raise DataError(f"class list {path} {trouble}: one class a line, each once")
    return classes


def first_synonym(name: str) -> str:
    """The name a class goes by in prompts: what stands before the first comma."""
    return name.split(",")[0].strip()


def classes_of(given: Sequence[str]) -> list[str]:
    """The classes that a command line names: as they stand there, or those of the one ``.txt`` file that it names.

    >>> classes_of(["grass", "red ball"])
    ['grass', 'red ball']

    Raises:
        DataError: a file stands beside other names, or is missing or empty; a name is empty or stands twice.
    """
    lists = [name for name in given if name.endswith(".txt")]
    if lists and len(given) > 1:
        raise DataError(f"class list {lists[0]} stands beside other names: give one .txt file, or names alone")
    if lists:
        return load_class_list(given[0])
    names = [name.strip() for name in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not all(names) or twice:
        trouble = f"'{twice[0]}' stands twice" if twice and twice[0] else "one is empty"
        raise DataError(f"these class names cannot be used, {trouble}: name each class once")
    return names
