"""Which files of a folder are images: one listing, by one set of rules, wherever a folder is given.

A folder is searched with all its sub-folders, linked ones too, each real folder once. Files count by their endings, in
any case. Hidden files and folders (``._x.png``, ``.DS_Store``) and what is no file (pipes, links to nothing) are left
out; what is left out is counted in the log. A file that is named itself is read whatever its ending.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Collection
from pathlib import Path

from d2host.engine.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
"""Endings, in lower case, of the files that count as images in a folder."""
SHOWN = 8  # reasons that the log names


def find_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES, without: Collection[Path] = ()) -> list[Path]:
    """The files below a folder that have one of some endings, sorted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.JPG", "a.png", "._a.png"):
    ...         Path(folder, name).touch()
    ...     [file.name for file in find_files(Path(folder))]
    ['a.png', 'b.JPG']

    Args:
        folder: to search.
        suffixes: in lower case.
        without: folders below it that are left out.

    Raises:
        DataError: the folder, or one below it, cannot be searched.
    """
    found, left_out = [], Counter()
    seen = {_identity(path) for path in without if os.path.isdir(path)}
    folders, linked = [folder], deque()
    while folders or linked:
        current = folders.pop() if folders else linked.popleft()
        try:
            identity = _identity(current)
            if identity in seen:
                left_out["folders linked again or left out"] += 1
                continue
            seen.add(identity)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"folder {current} cannot be searched ({error.strerror}): make it readable") from error
        for entry in entries:
            path, kind = Path(entry.path), _kind(entry)
            if entry.name.startswith("."):
                left_out["hidden"] += 1
            elif kind == "folder":
                (linked if entry.is_symlink() else folders).append(path)
            elif kind != "file":
                left_out["pipes, devices and links to nothing"] += 1
            elif path.suffix.lower() not in suffixes:
                left_out[f"{path.suffix.lower()} files" if path.suffix else "files without an ending"] += 1
            else:
                found.append(path)
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common(SHOWN))
        counts += f", {sum(left_out.values())} in all" if len(left_out) > SHOWN else ""
        logging.getLogger(__name__).warning("left out below %s: %s", folder, counts)
    return sorted(found)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry) -> str:
    """``file``, ``folder``, or empty: something else, or a link that leads nowhere."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:
        return ""
