"""Which images a training sees: those of a COCO json, a folder, a text list, or a plug-in's dataset.

A source is a sequence of records, so that the sample at a position is the same in every run and every worker. Shards
are another thing, see :mod:`declip.data.shards`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from d2host.engine.errors import DataError
from declip.data.image_list import ImageList
from declip.data.listing import IMAGE_SUFFIXES, find_files
from declip.data.text_files import read_json, read_lines
from declip.plugins import from_plugins

ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")


def list_images(source: str, image_root: str = "", root: str | Path = "datasets") -> ImageList:
    """The images of a source, in a fixed order.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (30, 20)).save(f"{folder}/street.jpg")
    ...     (record,) = list_images(folder)
    ...     tuple(record.read().shape)
    (3, 20, 30)

    Args:
        source: a COCO ``.json``; a text list with a path a line, UTF-8, in which ``#`` begins a comment; a folder (see
            :mod:`declip.data.listing`); an image; or the name of a plug-in's dataset.
        image_root: folder that relative paths of a json or list start from; empty: the folder of that file.
        root: folder of the datasets, for those by name.

    Raises:
        DataError: the source does not exist, cannot be parsed, or holds no image.
    """
    path, added = Path(source), from_plugins("datasets")
    suffix = path.suffix.lower()
    if source in added:
        images = ImageList(str(record["file_name"]) for record in added[source].load(Path(root)))
    elif suffix in ARCHIVES:
        raise DataError(f"image source {source} is compressed, so no image in it can be read alone: unpack it")
    elif source and os.path.isdir(source):
        images = ImageList(map(str, find_files(path)))
    elif suffix in IMAGE_SUFFIXES and os.path.isfile(source):
        images = ImageList([source])
    elif os.path.isfile(source):
        folder = Path(image_root) if image_root else path.parent
        if not os.path.isdir(folder):
            raise DataError(f"{folder}, where the images of {source} should lie, is no folder: give another image root")
        names = _names_in_json(path) if suffix == ".json" else _names_in_list(path)
        images = ImageList(names, folder)
    else:
        raise DataError(
            f"image source {source} does not exist: give a folder, a COCO .json, a .txt list, .tar shards, or one of "
            f"{', '.join(added)}"
        )
    if not images:
        raise DataError(f"no image found in {source}: known are {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return images


def _names_in_json(path: Path) -> list[str]:
    content = read_json(path, "image list", "give a COCO annotation file")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError(f"{path} is no COCO annotation file: it needs 'images', a list of objects with 'file_name'")
    names = [image.get("file_name") if isinstance(image, dict) else None for image in images]
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path} is no COCO annotation file: images[{position}] has no 'file_name' that is a text")
    return names


def _names_in_list(path: Path) -> Iterator[str]:
    lines = (line.strip() for line in read_lines(path, "image list", "give one path a line"))
    return (line for line in lines if line and not line.startswith("#"))
