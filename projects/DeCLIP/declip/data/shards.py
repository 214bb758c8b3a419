"""Images inside ``.tar`` shards, as WebDataset writes them: named by patterns, listed once, read by position."""

import glob
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import BinaryIO

from d2host.engine.errors import DataError
from declip.data.listing import IMAGE_SUFFIXES
from declip.data.opening import MOST_BYTES

MOST_SHARDS = 1_000_000  # that a pattern may name
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})(?:\.\.(\d{1,9}))?")
TAR_FAULTS = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError)


def find_shards(pattern: str) -> list[Path]:
    """The shards that a path or a pattern names: ``*``, ``?`` and ``**`` stand for what is there, braces for all they
    spell out, which has to be there.

    >>> find_shards("cc3m/{000..001}.tar")
    Traceback (most recent call last):
    d2host.engine.errors.DataError: there is no shard cc3m/000.tar: name those that exist, or correct the pattern

    Args:
        pattern: such as ``cc3m/*.tar`` or ``cc3m/{00000..00331}.tar`` (ranges and lists, not one within another).

    Raises:
        DataError: a shard is missing, or the pattern names none, too many, or cannot be understood.
    """
    if os.path.exists(pattern):
        return [Path(pattern)]
    shards: list[Path] = []
    for spelled in expand_braces(pattern):
        found = [Path(spelled)] if os.path.exists(spelled) else sorted(map(Path, glob.glob(spelled, recursive=True)))
        if not found:
            raise DataError(f"there is no shard {spelled}: name those that exist, or correct the pattern")
        shards += found
    return list(dict.fromkeys(shards))


def expand_braces(pattern: str) -> Iterator[str]:
    """What a pattern with braces spells out, as a shell would, in order.

    >>> list(expand_braces("{train,val}-{08..10}.tar"))[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']

    Raises:
        DataError: braces are unpaired or within another, empty, or spell out more than :data:`MOST_SHARDS` names.
    """
    texts, choices, total = BRACES.split(pattern)[::2], [], 1
    if any(brace in text for text in texts for brace in "{}"):
        raise DataError(f"the braces of {pattern} do not pair up: write ranges such as {{000..099}}, side by side")
    for content in BRACES.findall(pattern):
        values: Sequence = content.split(",")
        if match := RANGE.fullmatch(content):
            first, last, step = int(match[1]), int(match[2]), int(match[3] or 1) or 1
            values = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
        elif len(values) == 1:
            raise DataError(
                f"{{{content}}} of {pattern} is neither a range such as {{000..099}} nor a list with commas"
            )
        total *= len(values)
        if total > MOST_SHARDS:
            raise DataError(f"{pattern} spells out more than {MOST_SHARDS:,} names: give a narrower range")
        padded = match and any(text[0] == "0" and len(text) > 1 for text in match.groups()[:2])
        width = max(map(len, match.groups()[:2])) if padded else 0
        choices.append([f"{value:0{width}d}" if match else value for value in values])
    for chosen in product(*choices):
        yield "".join(part for pair in zip(texts, (*chosen, ""), strict=True) for part in pair)


def list_members(path: Path) -> list[tuple[str, int, int]]:
    """The images of a shard: name, position of their header, and size, bytes.

    Raises:
        DataError: it is no whole, uncompressed tar file.
    """
    found, left_out = [], Counter()
    with _opened(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as shard:
                for member in shard:
                    suffix = Path(member.name).suffix.lower()
                    if member.isdir():
                        continue
                    if not member.isfile():
                        left_out["links and devices"] += 1
                    elif Path(member.name).name.startswith("."):
                        left_out["hidden"] += 1
                    elif suffix in IMAGE_SUFFIXES:
                        found.append((member.name, member.offset, member.size))
                end = shard.offset
            file.seek(end)
            mark, behind = file.read(tarfile.BLOCKSIZE), file.read(2**20)
        except TAR_FAULTS as error:
            raise DataError(f"shard {path} is no uncompressed tar file ({error}): get it again") from error
    if mark != tarfile.NUL * tarfile.BLOCKSIZE:
        raise DataError(f"shard {path} is damaged or cut off at byte {end:,}: get it again")
    if behind.strip(tarfile.NUL):
        raise DataError(f"shard {path} goes on behind its end, as two tar files in one do: take them apart")
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        logging.getLogger(__name__).warning("left out of shard %s: %s", path, counts)
    if not found:
        logging.getLogger(__name__).warning("shard %s holds no %s file", path, ", ".join(sorted(IMAGE_SUFFIXES)))
    return found


@contextmanager
def opened_member(path: str, name: str, offset: int, size: int) -> Iterator[BinaryIO]:
    """A member of a shard, open for reading; arguments as :func:`list_members` gave them.

    Raises:
        DataError: the shard cannot be read or has changed, or the member is too large.
    """
    if size > MOST_BYTES:
        raise DataError(f"image {path}:{name} has {size:,} bytes, at most {MOST_BYTES:,} are read: remove it")
    with _opened(path) as file:
        try:
            file.seek(offset)
            shard = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (holds nothing but the file)
            member = shard.next()
        except TAR_FAULTS as error:
            raise DataError(f"shard {path} cannot be read at byte {offset:,} ({error}): get it again") from error
        if member is None or (member.name, member.size) != (name, size):
            raise DataError(f"shard {path} has changed since it was listed: {name} is not where it was; start again")
        yield shard.extractfile(member)


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    if not os.path.isfile(path):
        raise DataError(f"shard {path} does not exist, or is no file: get it again")
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise DataError(f"shard {path} cannot be opened ({error.strerror}): make it readable") from error
    with file:
        yield file
