"""Kinds of command-line arguments: each is a ``type`` for argparse that returns a value, or says what is wrong.

* numbers: :func:`whole_number`, :func:`number`, and ready ones: :data:`positive`, :data:`count`, :data:`seed`,
  :data:`side`, :data:`length`, :data:`processes`, :data:`workers`
* :func:`device`
* what is read: :func:`existing_file`, :func:`existing_folder`, :func:`existing_path`
* what is written: :func:`output_folder`, :func:`output_file`

>>> parser = argparse.ArgumentParser()
>>> _ = parser.add_argument("--max-images", type=count, default=0)
>>> parser.parse_args(["--max-images", "8"]).max_images
8

Nothing here imports torch.
"""

import argparse
import errno
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

LARGEST = 2**31 - 1
CORES = os.cpu_count() or 1


def whole_number(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """The kind of whole numbers from ``least`` to ``most``.

    >>> whole_number(1, 8)("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: '0' is no whole number from 1 to 8
    """
    limits = f"from {least} to {most}" if most != LARGEST else f"of at least {least}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number {limits}")
        return value

    return parse


def number(least: float, below: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """The kind of finite numbers in [``least``, ``below``), or, ``above`` it, without ``least`` itself.

    >>> number(0, 1)("nan")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: 'nan' is no number in [0, 1)
    """
    opening = "(" if above else "["

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least < value < below or (value == least and not above)):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number in {opening}{least}, {below})")
        return value

    return parse


positive = whole_number(1)
count = whole_number(0)
seed = whole_number(0)
side = whole_number(1, 16_384)  # of an image, pixels
length = whole_number(0, 16_384)  # pixels; 0 has a meaning of its own
processes = whole_number(1, max(8 * CORES, 64))
workers = whole_number(0, max(8 * CORES, 64))  # processes beside this one


def device(text: str) -> str:
    """The name of a device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``. Whether it is there is seen later.

    >>> device("cuda:1")
    'cuda:1'
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no device: give auto, cpu, cuda, cuda:1, ... or mps")
    return text


def existing_path(text: str) -> Path:
    """A file or folder that is there: no pipe, no device, no link into nowhere."""
    return _existing(text, "file or folder", lambda path: os.path.isfile(path) or os.path.isdir(path))


def existing_file(text: str) -> Path:
    """A file that is there: no folder, no pipe, no device, no link into nowhere."""
    return _existing(text, "file", os.path.isfile)


def existing_folder(text: str) -> Path:
    """A folder that is there."""
    return _existing(text, "folder", os.path.isdir)


def output_folder(text: str) -> Path:
    """A folder to write to, which is there or can be made; nothing is made yet."""
    path = _path(text)
    _check_room(path)
    return path


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """The kind of files to write, with one of some endings (none: any); what is there already must be a file."""

    def parse(text: str) -> Path:
        path = _path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{str(path)!r} has to end in {' or '.join(suffixes)}")
        if os.path.lexists(path) and not os.path.isfile(path):
            raise argparse.ArgumentTypeError(f"{str(path)!r} is no file to write over: give another")
        _check_room(path.parent)
        _check_length(path)
        return path

    return parse


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(text)


def _existing(text: str, kind: str, there: Callable[[Path], bool]) -> Path:
    path = _path(text)
    if not there(path):
        trouble = f"is no {kind}" if os.path.lexists(path) else "does not exist"
        raise argparse.ArgumentTypeError(f"{str(path)!r} {trouble}: give a {kind}")
    return path


def _check_room(folder: Path) -> None:
    """Refuse a folder that is not there and cannot be made, or cannot be written to."""
    _check_length(folder)
    nearest = next(part for part in (folder, *folder.parents) if os.path.lexists(part))
    if not nearest.is_dir():
        raise argparse.ArgumentTypeError(f"{str(nearest)!r} is no folder, so nothing can be written to {str(folder)!r}")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{str(nearest)!r} cannot be written to ({error.strerror})") from error


def _check_length(path: Path) -> None:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(f"{str(path)[:40]!r}... is too long a name for a file") from error
