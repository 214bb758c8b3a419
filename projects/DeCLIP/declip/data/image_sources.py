"""Where training images come from: a COCO json, a folder, a text list, WebDataset shards, or a plug-in's dataset.

A source is a list of records, so that the sample at a position is the same in every run and every worker.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.listing import IMAGE_SUFFIXES, find_files
from declip.data.reading import read_image
from declip.data.shards import find_shards, list_members, opened_member
from declip.data.text_files import read_json, read_text
from declip.plugins import from_plugins

ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")


@dataclass(frozen=True)
class ImageRecord:
    """One image file, alone or inside a shard.

    Attributes:
        path: of the file, or of the shard.
        member: name within the shard; empty for a file of its own.
        offset: of its header within the shard, bytes.
        size: of the file within the shard, bytes.
    """

    path: str
    member: str = ""
    offset: int = 0
    size: int = -1

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.path}:{self.member}" if self.member else self.path

    def read(self, least_side: int = 0) -> Tensor:
        """Decode as 3×H×W uint8 RGB, upright.

        Args:
            least_side: see :func:`declip.data.reading.read_image`.

        Raises:
            DataError: the file is missing or no readable image.
        """
        if self.member:
            with opened_member(self.path, self.member, self.offset, self.size) as file:
                image = read_image(file, name=self.name, least_side=least_side)
        else:
            image = read_image(self.path, least_side=least_side)
        return torch.from_numpy(image).permute(2, 0, 1)


def list_images(source: str, image_root: str = "", root: str | Path = "datasets") -> list[ImageRecord]:
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
            :mod:`declip.data.listing`); ``.tar`` shards, also as a pattern (``cc3m/*.tar``, ``cc3m/{000..331}.tar``);
            an image; or the name of a plug-in's dataset.
        image_root: folder that relative paths of a json or list start from; empty: the folder of that file.
        root: folder of the datasets, for those by name.

    Raises:
        DataError: the source does not exist, cannot be parsed, or holds no image.
    """
    path, added = Path(source), from_plugins("datasets")
    suffix = path.suffix.lower()
    if source in added:
        records = [ImageRecord(record["file_name"]) for record in added[source].load(Path(root))]
    elif suffix in ARCHIVES:
        raise DataError(f"image source {source} is compressed, so no image in it can be read alone: unpack it")
    elif suffix == ".tar":
        records = [ImageRecord(str(shard), *member) for shard in find_shards(source) for member in list_members(shard)]
    elif source and os.path.isdir(source):
        records = [ImageRecord(str(file)) for file in find_files(path)]
    elif suffix in IMAGE_SUFFIXES and os.path.isfile(source):
        records = [ImageRecord(source)]
    elif os.path.isfile(source):
        folder = Path(image_root) if image_root else path.parent
        if not os.path.isdir(folder):
            raise DataError(f"{folder}, where the images of {source} should lie, is no folder: give another image root")
        names = _names_in_json(path) if suffix == ".json" else _names_in_list(path)
        records = [ImageRecord(str(folder / name)) for name in names]
    else:
        raise DataError(
            f"image source {source} does not exist: give a folder, a COCO .json, a .txt list, .tar shards, or one of "
            f"{', '.join(added)}"
        )
    if not records:
        raise DataError(f"no image found in {source}: known are {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return records


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


def _names_in_list(path: Path) -> list[str]:
    lines = (line.strip() for line in read_text(path, "image list", "give one path a line").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]
