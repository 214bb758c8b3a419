"""Converting label files: in parallel, with a progress bar, going on where an interrupted run stopped.

A file is written under a temporary name and renamed, so one that exists is whole and is not made again.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from d2host.engine.atomic import replacing
from d2host.engine.errors import DataError

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
        DataError: a value is outside the table or unknown to it; ``path`` is named.
    """
    if labels.ndim != 2:
        raise DataError(f"label file {path} has {labels.ndim} axes: labels are single-channel images")
    if labels.size and (labels.min() < 0 or labels.max() >= len(table)):
        raise DataError(f"label file {path} holds {labels.max()}, at most {len(table) - 1} is expected: wrong dataset?")
    converted = table[labels]
    if (converted == UNKNOWN).any():
        value = labels[converted == UNKNOWN].flat[0]
        raise DataError(f"label file {path} holds {value}, which is no label of this dataset: unpack it again")
    return converted


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write H×W labels, 8-bit for ``.png`` and 16-bit for ``.tif``, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    kind = np.uint16 if path.suffix == ".tif" else np.uint8
    try:
        with replacing(path) as temporary:
            Image.fromarray(labels.astype(kind)).save(temporary)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error}): free disk space and run again") from error


def convert_all(pairs: Iterable[Pair], convert: Callable[[Path, Path], None], workers: int, title: str) -> int:
    """Make every file that does not exist yet; returns how many were made.

    Args:
        pairs: sources and targets.
        convert: reads a source and writes its target; a function of a module, so that workers can call it.
        workers: processes; 1: this one.
        title: of the progress bar.

    Raises:
        DataError: a source is missing or wrong; what was made stays.
    """
    missing = [pair for pair in pairs if not pair[1].is_file()]
    return len(map_files(convert, missing, workers, title))


def map_files(function: Callable[..., Any], arguments: Sequence[tuple], workers: int, title: str) -> list[Any]:
    """What a function says of each tuple of arguments, in order, with a progress bar.

    Args:
        function: of a module, or a partial of one, so that workers can call it.
        arguments: of each call.
        workers: processes; 1: this one.
        title: of the progress bar.

    Raises:
        DataError: whatever ``function`` raises; calls not begun are dropped.
    """
    if workers <= 1:
        return [function(*each) for each in tqdm(arguments, desc=title, unit="file")]
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(function, *each) for each in arguments]
        try:
            return [future.result() for future in tqdm(futures, desc=title, unit="file")]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def find_sources(folder: Path, pattern: str, remedy: str) -> list[Path]:
    """The files below a folder that match, sorted.

    Raises:
        DataError: the folder does not exist or holds none; ``remedy`` says what to do.
    """
    if not folder.is_dir():
        raise DataError(f"{folder.absolute()} does not exist: {remedy}")
    files = sorted(folder.rglob(pattern))
    if not files:
        raise DataError(f"{folder.absolute()} holds no {pattern}: {remedy}")
    return files


def pair_up(sources: Sequence[Path], target_folder: Path, suffix: str) -> list[Pair]:
    """Each source with the file of its stem in a folder."""
    return [(source, target_folder / f"{source.stem}{suffix}") for source in sources]
