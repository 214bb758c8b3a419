"""A run's output directory, which one run at a time writes to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from d2host.engine.atomic import sweep
from d2host.engine.errors import ConfigError, OutputError

LOCK = ".run.lock"
SAFETENSORS_PARTS = ".tmp??????"  # names of what safetensors writes before it moves it; they do not say whose it is
PATIENCE = 8.0  # seconds: the loading processes of a killed run may hold its lock until they notice


@contextmanager
def owned(folder: str | Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep ``folder``, made if need be, to this process, by a lock that the system releases however the process ends.

    What dead processes left half-written in it is removed. Network file systems need a lock service for the lock to
    hold between machines; where there are no locks at all, a file stands for one, and outlives a crash.

    Args:
        folder: the output directory.
        patience: seconds to wait for another run to end.

    Raises:
        ConfigError: another run has it.
        OutputError: it is no folder, or one that cannot be written to.
    """
    folder, logger = Path(folder), logging.getLogger(__name__)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=patience)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"another run writes to {folder}: wait for its end, or give another OUTPUT_DIR (if there is none, on a "
            f"file system without locks, remove {folder / LOCK})"
        ) from error
    except NotImplementedError:  # of older filelock
        logger.warning("The file system of %s has no locks: make sure that no other run writes to it", folder)
    except (OSError, ValueError) as error:  # ValueError: no name of a file at all
        raise OutputError.of(folder, error) from error
    try:
        parts = chain.from_iterable(map(sweep, [folder, *(folder / "inference").glob("**/")]))
        for part in (*parts, *folder.glob(SAFETENSORS_PARTS)):  # the folder is this run's, so nobody else writes them
            part.unlink(missing_ok=True)
            logger.info("Removed %s, which a run that was killed left half-written", part)
        yield
    finally:
        lock.release()
