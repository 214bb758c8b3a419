"""Text and JSON files from outside, read within bounds: whatever is wrong with one is a sentence that names it."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from d2host.engine.errors import DataError

MOST_BYTES = 512 * 2**20
"""Of a file that is read whole: COCO's largest annotation file has 450 MB."""

LONGEST_LINE = 2**16
"""Characters of a line, where lines are read one after the other."""

MOST_VALUES = 60_000_000
"""Of a JSON file, lists, objects and what they hold: COCO's largest annotation file has about 50 million."""


def read_text(path: str | Path, kind: str, remedy: str, most_bytes: int = MOST_BYTES) -> str:
    """A file's text: UTF-8, with or without a byte-order mark; every kind of line end is a newline.

    Args:
        path: of the file.
        kind: what messages call it.
        remedy: what to do where it cannot be read.
        most_bytes: a larger file is refused before it is read.

    Raises:
        DataError: the file is missing, none (a folder, a pipe), too large, unreadable, or no UTF-8 text.
    """
    with _faults_of(path, kind, remedy), _opened_text(path, kind, remedy) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise DataError(f"{kind} {path} has {size:,} bytes, at most {most_bytes:,} are read: {remedy}")
        return file.read()


def _opened_text(path: str | Path, kind: str, remedy: str) -> TextIO:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise DataError(f"{kind} {path} is no file: {remedy}")
    return open(path, encoding="utf-8-sig")


@contextmanager
def _faults_of(path: str | Path, kind: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{kind} {path} does not exist: {remedy}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{kind} {path} is no UTF-8 text ({error}): save it as UTF-8, or {remedy}") from error
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(f"{kind} {path} cannot be read ({error}): {remedy}") from error


def read_lines(path: str | Path, kind: str, remedy: str) -> Iterator[str]:
    """A text file's lines without their ends, one after the other, of a file of any size; see :func:`read_text`.

    Raises:
        DataError: as for a text, and where a line is longer than :data:`LONGEST_LINE`.
    """
    with _faults_of(path, kind, remedy), _opened_text(path, kind, remedy) as file:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and line[-1] != "\n":
                raise DataError(f"{kind} {path} has a line of more than {LONGEST_LINE:,} characters: {remedy}")
            yield line.rstrip("\n")


def read_json(path: str | Path, kind: str, remedy: str) -> Any:
    """What a JSON file holds; see :func:`read_text`.

    Raises:
        DataError: as for a text, and where it is no JSON, has NaN or Infinity, or is too large or nested too deeply.
    """
    text = read_text(path, kind, remedy)
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        raise DataError(f"{kind} {path} holds more than {MOST_VALUES:,} values: {remedy}")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{kind} {path} is no JSON that can be read ({error}): {remedy}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
