"""Images inside ``.tar`` shards, as WebDataset writes them: named by patterns, read one after the other.

Shards elsewhere are fetched by the openers of the webdataset library. Its reader of tar files is not used: that one
takes a damaged header for the end of a shard, and holds files of any size.
"""

import glob
import logging
import os
import re
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import BinaryIO

from d2host.engine.errors import ConfigError, DataError
from declip.data.listing import IMAGE_SUFFIXES
from declip.data.opening import MOST_BYTES

MOST_SHARDS = 1_000_000  # that a pattern may name
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})(?:\.\.(\d{1,9}))?")
ELSEWHERE = re.compile(r"pipe:|(https?|gs|hf|sftp|ftps|scp|ais)://")
TAR_FAULTS = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError)


def are_shards(source: str) -> bool:
    """Whether a source of images is one of shards.

    >>> are_shards("cc3m/{000..331}.tar"), are_shards("pipe:aws s3 cp s3://cc3m/000.tar -"), are_shards("list.txt")
    (True, True, False)
    """
    return bool(ELSEWHERE.match(source)) or (source.lower().endswith(".tar") and not os.path.isdir(source))


def find_shards(pattern: str) -> list[str]:
    """The shards that a path or a pattern names: ``*``, ``?`` and ``**`` stand for what is there, braces for all they
    spell out, which has to be there. What lies elsewhere (``https://``, ``pipe:`` and a command) has braces alone.

    >>> find_shards("cc3m/{000..001}.tar")
    Traceback (most recent call last):
    d2host.engine.errors.DataError: there is no shard cc3m/000.tar: name those that exist, or correct the pattern

    Args:
        pattern: such as ``cc3m/*.tar`` or ``cc3m/{00000..00331}.tar`` (ranges and lists, not one within another).

    Raises:
        DataError: a shard is missing, or the pattern names none, too many, or cannot be understood.
    """
    if os.path.exists(pattern):
        return [pattern]
    if ELSEWHERE.match(pattern):
        return list(dict.fromkeys(expand_braces(pattern)))
    shards: list[str] = []
    for spelled in expand_braces(pattern):
        found = [spelled] if os.path.exists(spelled) else sorted(glob.glob(spelled, recursive=True))
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


def read_shard(shard: str, first: int = 0, step: int = 1) -> Iterator[tuple[int, str, bytes]]:
    """The images of a shard as they are stored: position among them, name, and content of the file.

    Args:
        shard: a path, or what :data:`ELSEWHERE` matches.
        first: position to begin with; those before are skipped unread.
        step: from one position to the next.

    Raises:
        DataError: it is no whole, uncompressed tar file, or an image in it is too large.
    """
    position, left_out = 0, Counter()
    with _opened(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    tar.members.clear()  # which would hold every header
                    hidden = Path(member.name).name.startswith(".")
                    if not member.isfile() or hidden:
                        left_out["hidden" if hidden else "links and devices"] += not member.isdir()
                    elif Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                        if position >= first and (position - first) % step == 0:
                            yield position, f"{shard}:{member.name}", _content(tar, member, shard)
                        position += 1
                end = tar.offset
            file.seek(end)
            mark, behind = file.read(tarfile.BLOCKSIZE), file.read(2**20)
        except TAR_FAULTS as error:
            raise DataError(f"shard {shard} is no uncompressed tar file ({error}): get it again") from error
    if mark != tarfile.NUL * tarfile.BLOCKSIZE:
        raise DataError(f"shard {shard} is damaged or cut off at byte {end:,}: get it again")
    if behind.strip(tarfile.NUL):
        raise DataError(f"shard {shard} goes on behind its end, as two tar files in one do: take them apart")
    if sum(left_out.values()):
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        logging.getLogger(__name__).warning("left out of shard %s: %s", shard, counts)
    if not position:
        logging.getLogger(__name__).warning("shard %s holds no %s file", shard, ", ".join(sorted(IMAGE_SUFFIXES)))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: str) -> bytes:
    if member.size > MOST_BYTES:
        raise DataError(
            f"image {shard}:{member.name} has {member.size:,} bytes, at most {MOST_BYTES:,} are read: remove it"
        )
    content = tar.extractfile(member).read()
    if len(content) < member.size:
        raise DataError(f"shard {shard} is damaged or cut off in {member.name}: get it again")
    return content


@contextmanager
def _opened(shard: str) -> Iterator[BinaryIO]:
    if ELSEWHERE.match(shard):
        with tempfile.TemporaryFile() as file:
            _fetch(shard, file)
            file.seek(0)
            yield file
        return
    if not os.path.isfile(shard):
        raise DataError(f"shard {shard} does not exist, or is no file: get it again")
    try:
        file = open(shard, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise DataError(f"shard {shard} cannot be opened ({error.strerror}): make it readable") from error
    with file:
        yield file


def _fetch(shard: str, file: BinaryIO) -> None:
    try:
        from webdataset.gopen import gopen
    except ImportError as error:
        raise ConfigError(f"shard {shard} is fetched by webdataset: pip install declip-catseg[webdataset]") from error
    try:
        with gopen(shard) as stream:
            shutil.copyfileobj(stream, file)
    except (OSError, ValueError) as error:
        raise DataError(f"shard {shard} cannot be fetched ({error}): correct its address, or get it first") from error
