"""Where training images come from: a COCO json, a folder, a text list, WebDataset shards, or a plug-in's dataset.

A source is a list of records, so that the sample at a position is the same in every run and every worker.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.reading import IMAGE_SUFFIXES, read_image
from declip.plugins import from_plugins


@dataclass(frozen=True)
class ImageRecord:
    """One image file, alone or inside a shard.

    Attributes:
        path: of the file, or of the shard.
        member: name within the shard; empty for a file of its own.
        offset, size: bytes within the shard.
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
        source: str | bytes = self.path
        if self.member:
            try:
                with open(self.path, "rb") as shard:
                    shard.seek(self.offset)
                    source = shard.read(self.size)
            except OSError as error:
                raise DataError(f"shard {self.path} cannot be read ({error}): get it again") from error
        return torch.from_numpy(read_image(source, name=self.name, least_side=least_side)).permute(2, 0, 1)


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
        source: a COCO ``.json``; a ``.txt`` with a path a line; a folder, searched recursively; ``.tar`` shards, also
            as a pattern (``cc3m/*.tar``); or the name of a plug-in's dataset.
        image_root: folder that relative paths of a json or list start from; empty: the folder of that file.
        root: folder of the datasets, for those by name.

    Raises:
        DataError: the source does not exist, cannot be parsed, or holds no image.
    """
    path, added = Path(source), from_plugins("datasets")
    if source in added:
        records = [ImageRecord(record["file_name"]) for record in added[source].load(Path(root))]
    elif path.suffix == ".tar":
        shards = [path] if path.is_file() else sorted(path.parent.glob(path.name))
        records = [record for shard in shards for record in _list_shard(shard)]
    elif path.is_dir():
        records = [ImageRecord(str(file)) for file in find_images(path)]
    elif path.is_file():
        folder = Path(image_root) if image_root else path.parent
        names = _names_in_json(path) if path.suffix == ".json" else _names_in_list(path)
        records = [ImageRecord(str(folder / name)) for name in names]
    else:
        raise DataError(
            f"image source {source} does not exist: give a folder, a COCO .json, a .txt list, .tar shards, or one of "
            f"{', '.join(added)}"
        )
    if not records:
        raise DataError(f"no image found in {source}: known are {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return records


def find_images(folder: Path) -> list[Path]:
    """The image files below a folder, sorted, whatever the case of their endings."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def _names_in_json(path: Path) -> list[str]:
    try:
        return [image["file_name"] for image in json.loads(path.read_text(encoding="utf-8"))["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO annotation file ({error!r}): it needs 'images' with 'file_name'") from error


def _names_in_list(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _list_shard(path: Path) -> list[ImageRecord]:
    try:
        with tarfile.open(path, "r:") as shard:
            return [
                ImageRecord(str(path), member.name, member.offset_data, member.size)
                for member in shard
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
            ]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"shard {path} is no uncompressed tar file ({error}): get it again") from error
