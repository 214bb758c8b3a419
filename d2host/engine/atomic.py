"""Files that are written whole or not at all, and what is left of those that were not."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from d2host.engine.errors import OutputError

PART = re.compile(r"\..*\.((?P<machine>[^.]*)-)?(?P<process>\d+)\.part(\.[^.]*)?", re.DOTALL)
PART_FILES = ".*.part*"  # the names among which those of PART are
DAY = 24 * 60 * 60  # seconds


@contextmanager
def replacing(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """A path beside ``path``, of the same suffix, that takes its place when the block succeeds and goes when it fails.

    The file gets the permissions of any new file, whatever the writer gave it (safetensors: the owner's alone). A
    process that is killed leaves the part it has written, which :func:`sweep` knows by its name.

    Args:
        path: where the file is to be; its folder is made if need be.
        durable: let the file reach the disk before it takes its place, so that not even a failure of power leaves
            another than the old one or the new one whole. Without, a process may be killed at any moment, no more.

    Raises:
        OutputError: the folder cannot be made, or the file not be written or moved; what was there is untouched.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/note.txt") as temporary:
    ...         temporary.write_text("all of it")
    ...     Path(f"{folder}/note.txt").read_text()
    9
    'all of it'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{_machine()}-{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError.of(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(folder: str | Path) -> list[Path]:
    """Remove what processes that are no more left half-written in ``folder``, and return the paths.

    A process of another machine is taken for living for a day.
    """
    swept = []
    for path in Path(folder).glob(PART_FILES):
        match = PART.fullmatch(path.name)
        if not match:
            continue
        with suppress(OSError):  # removed by somebody else, or on Windows in use
            here = match["machine"] in (None, _machine())
            if not _is_alive(int(match["process"])) if here else time.time() - path.stat().st_mtime > DAY:
                path.unlink()
                swept.append(path)
    return swept


def _machine() -> str:
    return platform.node().partition(".")[0][:32]


def _is_alive(process: int) -> bool:
    """Whether another process of that number runs; on Windows, where asking may end it, files in use stay anyway."""
    if process == os.getpid() or os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
