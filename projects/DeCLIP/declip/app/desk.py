"""What the page asks: segmenters by title, the images they looked at last, and the limits of both.

Shape legend
    H, W  image
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from d2host.engine.errors import DataError
from declip.data.opening import check_size
from declip.data.reading import read_image, read_size
from declip.questions import Background, check_class_names
from declip.segmentation import Segmentation
from declip.segmenter import EncodedImage, Segmenter


@dataclass(frozen=True)
class Limits:
    """How much the page takes.

    Attributes:
        file_bytes: of an upload.
        pixels: of an image.
        names: of classes, synonyms included.
        encoded_images: that are kept, over all models; the longest unused goes first.
    """

    file_bytes: int = 20 * 2**20
    pixels: int = 40_000_000
    names: int = 200
    encoded_images: int = 8


class Desk:
    """Segmenters, and the images that they looked at last; threads share it.

    Args:
        segmenters: title → segmenter, the one that is offered first in front.
        limits: of what is taken.

    >>> import declip
    >>> desk = Desk({"nano": declip.load_segmenter("nano")})
    >>> photo = np.full((64, 96, 3), 90, np.uint8)
    >>> desk.segment("nano", photo, "grass, red ball; red circle").class_names
    ('grass', 'red ball; red circle')
    """

    def __init__(self, segmenters: Mapping[str, Segmenter], limits: Limits | None = None) -> None:
        self.segmenters, self.limits = dict(segmenters), limits or Limits()
        self._encoded: OrderedDict[tuple[str, bytes], EncodedImage] = OrderedDict()
        self._lock = Lock()

    def segmenter(self, title: str) -> Segmenter:
        """One of the segmenters.

        Raises:
            DataError: there is none of that title.
        """
        if title not in self.segmenters:
            raise DataError(f"model {title!r:.80} is not offered: choose among {', '.join(self.segmenters)}")
        return self.segmenters[title]

    def read(self, path: str | Path, name: str) -> np.ndarray:
        """An uploaded file as H×W×3 uint8 RGB, upright.

        Args:
            path: of the file.
            name: what it was called where it came from.

        Raises:
            DataError: it is no image, or larger than the limits.
        """
        size = Path(path).stat().st_size
        if size > self.limits.file_bytes:
            most = self.limits.file_bytes / 2**20
            raise DataError(f"image {name} has {size / 2**20:.1f} MB, of at most {most:.0f}: make it smaller")
        with open(path, "rb") as file:
            check_size(read_size(file, name=name), f"image {name}", self.limits.pixels)
            file.seek(0)
            return read_image(file, name=name)

    def encoded(self, title: str, pixels: np.ndarray) -> EncodedImage:
        """An image as a segmenter sees it, looked at now or lately."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels), key=str(pixels.shape).encode()).digest()
        with self._lock:
            image = self._encoded.pop((title, digest), None)
        image = image or self.segmenter(title).encode(pixels)
        with self._lock:
            self._encoded[title, digest] = image
            while len(self._encoded) > self.limits.encoded_images:
                self._encoded.popitem(last=False)
        return image

    def segment(
        self, title: str, pixels: np.ndarray, names: str | Sequence[str], background: Background | None = None
    ) -> Segmentation:
        """An image segmented into classes, which are given as a list or as one text with commas between them.

        Raises:
            DataError: there is no class, or one cannot be used.
        """
        classes = check_class_names(split_names(names) if isinstance(names, str) else names, self.limits.names)
        segmenter, image = self.segmenter(title), self.encoded(title, pixels)
        return segmenter.segment(image, classes, background=background)


def split_names(text: str) -> list[str]:
    """Class names in a text, separated by commas or line ends; a last one that is empty is none.

    >>> split_names("car, tv; monitor, ")
    ['car', 'tv; monitor']

    Raises:
        DataError: there is none.
    """
    names = [" ".join(name.split()) for line in text.strip().splitlines() for name in line.rstrip(", ").split(",")]
    if not any(names):
        raise DataError("there are no class names: type some, with commas between them")
    return names
