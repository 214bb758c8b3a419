"""Converting label files: in parallel, with a progress bar, going on where an interrupted run stopped.

A file is written under a temporary name and renamed, so one that exists is whole and is not made again. A folder says
that it is not finished (:data:`declip.data.folder_dataset.UNFINISHED`) until all of its files are there.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from d2host.engine.atomic import replacing
from d2host.engine.errors import DataError
from declip.data.folder_dataset import UNFINISHED
from declip.data.listing import find_files
from declip.data.records import twice

UNKNOWN = -1  # in a table: a value that no label file of the dataset should hold

Pair = tuple[Path, Path]  # a source file and the file to write


def remap_table(mapping: dict[int, int], size: int, default: int = UNKNOWN) -> np.ndarray:
    """A lookup table of ``size`` entries: ``mapping``, and ``default`` for every other value."""
    table = np.full(size, default, dtype=np.int64)
    for value, label in mapping.items():
        table[value] = label
    return table


def look_up(labels: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Labels through a table; H×W.

    Raises:
        DataError: labels are no whole numbers, or a value is outside the table or unknown to it; ``path`` is named.
    """
    if labels.ndim != 2:
        raise DataError(f"label file {path} has {labels.ndim} axes: labels are single-channel images")
    if labels.dtype.kind not in "biu":
        raise DataError(f"label file {path} holds {labels.dtype} values: labels are whole numbers")
    if labels.size and (labels.min() < 0 or labels.max() >= len(table)):
        value = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"label file {path} holds {value}, 0 to {len(table) - 1} are expected: wrong dataset?")
    converted = table[labels.astype(np.int64)]
    if (converted == UNKNOWN).any():
        value = labels[converted == UNKNOWN].flat[0]
        raise DataError(f"label file {path} holds {value}, which is no label of this dataset: unpack it again")
    return converted


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """As :func:`d2host.engine.atomic.replacing`, for a file of a dataset.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}): free disk space, or make its folder writable, and run again; what "
            "is made already stays"
        ) from error


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write H×W labels, 8-bit for ``.png`` and 16-bit for ``.tif``, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    kind = np.uint16 if path.suffix == ".tif" else np.uint8
    with writing(path) as temporary:
        Image.fromarray(labels.astype(kind)).save(temporary)


@contextmanager
def filling(*folders: Path) -> Iterator[None]:
    """Marks folders as unfinished until the block succeeds.

    Raises:
        DataError: a folder cannot be written to.
    """
    for folder in folders:
        with writing(folder / UNFINISHED) as marker:
            marker.write_text("files are still being made here; where none are, run the preparation again\n")
    yield
    for folder in folders:
        (folder / UNFINISHED).unlink(missing_ok=True)


def convert_all(
    pairs: Sequence[Pair],
    convert: Callable[[Path, Path], None],
    workers: int,
    title: str,
    also: Sequence[Path] = (),
) -> int:
    """Make every file that does not exist yet; returns how many were made.

    Args:
        pairs: sources and targets, at least one.
        convert: reads a source and writes its target; a function of a module, so that workers can call it.
        workers: processes; 1: this one.
        title: of the progress bar.
        also: folders besides those of the targets that ``convert`` writes to.

    Raises:
        DataError: a source is missing or wrong, or two belong to one target; what was made stays.
    """
    targets = [target for _, target in pairs]
    if repeated := twice(targets):
        sources = [str(source) for source, target in pairs if target == repeated[0]]
        raise DataError(f"{' and '.join(sources)} would both become {repeated[0]}: rename or remove one")
    folders = dict.fromkeys([*(target.parent for target in targets), *also])
    missing = [pair for pair in pairs if not (os.path.isfile(pair[1]) and os.path.getsize(pair[1]))]
    if not missing and not any(os.path.lexists(folder / UNFINISHED) for folder in folders):
        return 0
    with filling(*folders):
        return len(map_files(convert, missing, workers, title))


def map_files(function: Callable[..., Any], arguments: Sequence[tuple], workers: int, title: str) -> list[Any]:
    """What a function says of each tuple of arguments, in order, with a progress bar.

    Args:
        function: of a module, or a partial of one, so that workers can call it.
        arguments: of each call.
        workers: processes; 1: this one.
        title: of the progress bar.

    Raises:
        DataError: whatever ``function`` raises, or a worker is killed; calls not begun are dropped.
    """
    workers = min(workers, len(arguments))
    if workers <= 1:
        with tqdm(arguments, desc=title, unit="file") as bar:  # closed before an error is printed
            return [function(*each) for each in bar]
    with ProcessPoolExecutor(workers, initializer=_leave_interrupts_to_parent) as pool:
        try:
            futures = [pool.submit(function, *each) for each in arguments]
            with tqdm(futures, desc=title, unit="file") as bar:
                return [future.result() for future in bar]
        except BrokenProcessPool as error:
            raise DataError(f"{title}: a worker was killed, perhaps for want of memory: use fewer --workers") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def find_sources(folder: Path, pattern: str, remedy: str) -> list[Path]:
    """The files below a folder that match, sorted; see :mod:`declip.data.listing`.

    Raises:
        DataError: the folder does not exist or holds none; ``remedy`` says what to do.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder.absolute()} does not exist: {remedy}")
    files = [file for file in find_files(folder, [Path(pattern).suffix]) if file.match(pattern)]
    if not files:
        raise DataError(f"{folder.absolute()} holds no {pattern}: {remedy}")
    return files


def pair_up(sources: Sequence[Path], target_folder: Path, suffix: str) -> list[Pair]:
    """Each source with the file of its stem in a folder."""
    return [(source, target_folder / f"{source.stem}{suffix}") for source in sources]
