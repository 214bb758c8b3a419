"""Lists of image files, as long as those of web collections: names in two arrays that all loading processes share.

Ten million Python objects of a path each take gigabytes, and every process that counts references to them ends up with
a copy of its own.
"""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.reading import read_image

AT_ONCE = 2**16  # names that are Python objects while a list is made


@dataclass(frozen=True)
class ImageRecord:
    """One image file.

    Attributes:
        path: of the file.
    """

    path: str

    def read(self, least_side: int = 0) -> Tensor:
        """Decode as 3×H×W uint8 RGB, upright.

        Args:
            least_side: see :func:`declip.data.reading.read_image`.

        Raises:
            DataError: the file is missing or no readable image.
        """
        return torch.from_numpy(read_image(self.path, least_side=least_side)).permute(2, 0, 1)


class ImageList(Sequence[ImageRecord]):
    """Image files in a fixed order: 8 bytes each and their names, in memory that processes share.

    Args:
        names: paths; relative ones start at ``folder``.
        folder: empty: the working directory.

    Raises:
        DataError: there is no shared memory for them.

    >>> images = ImageList(["0.jpg", "1.jpg"], folder="train")
    >>> len(images), images[1].path
    (2, 'train/1.jpg')
    """

    def __init__(self, names: Iterable[str], folder: str | Path = "") -> None:
        self.folder = str(folder)
        texts, lengths = [], []
        names = iter(names)
        while some := [name.encode("utf-8", "surrogatepass") for name in islice(names, AT_ONCE)]:
            texts.append(b"".join(some))
            lengths.append(np.fromiter(map(len, some), np.int64, len(some)))
        count, size = sum(map(len, lengths)), sum(map(len, texts))
        try:
            storages = [torch.UntypedStorage._new_shared(length) for length in (max(size, 1), 8 * (count + 1))]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{count:,} images' names take {size:,} bytes, for which there is no shared memory ({error}): enlarge "
                "it (/dev/shm, in Docker --shm-size), or give shorter paths below an image root"
            ) from error
        self._text = torch.empty(0, dtype=torch.uint8).set_(storages[0])
        self._ends = torch.empty(0, dtype=torch.int64).set_(storages[1])
        self._ends[0] = place = done = 0
        for text, some in zip(_taken(texts), _taken(lengths), strict=True):
            self._text.numpy()[place : place + len(text)] = np.frombuffer(text, np.uint8)
            self._ends.numpy()[done + 1 : done + 1 + len(some)] = place + np.cumsum(some)
            place, done = place + len(text), done + len(some)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> ImageRecord:
        index = range(len(self))[operator.index(index)]
        start, end = self._ends[index : index + 2].tolist()
        name = self._text[start:end].numpy().tobytes().decode("utf-8", "surrogatepass")
        return ImageRecord(os.path.join(self.folder, name))


def _taken(values: list) -> Iterator:
    """Each value once, in order; the list lets go of it."""
    values.reverse()
    while values:
        yield values.pop()
