"""Class lists: plain text files, one class a line, synonyms separated by commas."""

import os
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from d2host.engine.errors import DataError
from declip.data.records import CONTROL, twice
from declip.data.text_files import read_text

CLASS_LISTS = Path(str(files("declip.data") / "classes"))
MOST_BYTES = 2**26  # of a class list: a million names
LONGEST_NAME = 2000  # characters, synonyms included: many times what any text tower reads


def load_class_list(name_or_path: str | Path) -> list[str]:
    """The classes of a list, in label order.

    >>> load_class_list("voc_20")[:3]
    ['aeroplane', 'bicycle', 'bird']

    Blank lines and lines that begin with ``#`` are skipped; ``a, b`` stays one class with its synonyms. The file is
    UTF-8, with or without a byte-order mark, with line ends of any system; tabs and runs of spaces become one space,
    and characters are composed (NFC), so that names that look the same are the same.

    Args:
        name_or_path: a file, or the name (without ``.txt``) of one of the package's.

    Raises:
        DataError: the file is missing, unreadable, empty or too large, or :func:`check_class_names` refuses its names.
    """
    path = CLASS_LISTS / f"{name_or_path}.txt"
    if Path(name_or_path).name != str(name_or_path) or not os.path.isfile(path):
        path = Path(name_or_path)
    known = ", ".join(sorted(file.stem for file in CLASS_LISTS.glob("*.txt")))
    text = read_text(path, "class list", f"give a text file, or one of the lists {known}", MOST_BYTES)
    lines = (" ".join(unicodedata.normalize("NFC", line).split()) for line in text.split("\n"))
    return check_class_names([line for line in lines if line and not line.startswith("#")], f"class list {path}")


def check_class_names(names: Any, source: str) -> list[str]:
    """Class names as a list, each of them one that can be told from the others.

    >>> check_class_names(["sofa, couch", "lamp", "lamp"], "my list")
    Traceback (most recent call last):
    d2host.engine.errors.DataError: my list names lamp twice: one class a line or entry, each once

    Args:
        names: a list or tuple of texts.
        source: what messages call it.

    Raises:
        DataError: there is no name, one is no text, names nothing before its first comma, has control characters or is
            longer than :data:`LONGEST_NAME`, or one occurs twice.
    """
    remedy = "one class a line or entry, each once"
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise DataError(f"{source} is a {type(names).__name__}, not a list of texts: {remedy}")
    if not names:
        raise DataError(f"{source} names no class: {remedy}")
    for number, name in enumerate(names, start=1):
        if not isinstance(name, str):
            raise DataError(f"{source} has a {type(name).__name__} as class {number}, not a text: {remedy}")
        if len(name) > LONGEST_NAME:
            trouble = f"{len(name):,} characters, at most {LONGEST_NAME:,} are taken"
            raise DataError(f"{source} has a name of {trouble}, class {number} ({name[:40]!r}...): {remedy}")
        if not first_synonym(name) or CONTROL.search(name):
            raise DataError(f"{source} has {name[:80]!r} as class {number}, which is no name: {remedy}")
    if repeated := twice(names):
        more = f" (and {len(repeated) - 3} more)" if len(repeated) > 3 else ""
        raise DataError(f"{source} names {', '.join(repeated[:3])} twice{more}: {remedy}")
    return list(names)


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
    return check_class_names([" ".join(name.split()) for name in given], "the command line")
