"""Reading images and labels, any bit depth, with errors that name the file.

Shape legend
    H, W  image, upright

Every image that the project reads comes through :func:`read_image`: RGB, and upright, that is, turned as its EXIF
orientation says. Label files hold arrays of numbers and are read as stored, so labels belong to the upright image.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from d2host.engine.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
"""Endings, in lower case, of the files that count as images in a folder."""


def read_image(source: str | Path | bytes, *, name: str = "", least_side: int = 0) -> np.ndarray:
    """An image as H×W×3 uint8 RGB, turned as its EXIF orientation says.

    Args:
        source: a file, or the bytes of one.
        name: what messages call it; empty: the file's path.
        least_side: a JPEG may be decoded at a half, quarter or eighth of its size, which is faster, as long as both
            sides stay at least this; 0: full size.

    Raises:
        DataError: the file is missing or no readable image.
    """
    with _opened(source, f"image {name or source}") as image:
        if least_side:
            image.draft("RGB", (least_side, least_side))
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image.convert("RGB"))


def read_array(path: str | Path) -> np.ndarray:
    """The numbers of a label file as stored: H×W of a single-channel or palette image, H×W×3 of a colour one.

    Raises:
        DataError: the file is missing or unreadable.
    """
    with _opened(path, f"label file {path}") as image:
        return np.asarray(image)


def read_sem_seg(
    path: str | Path, *, num_classes: int, ignore_label: int, reduce_zero_label: bool = False
) -> np.ndarray:
    """A label file as H×W int64 class indices.

    8-bit, palette, 16-bit and 32-bit files keep their values.

    Args:
        path: single-channel image of raw labels.
        num_classes: classes that labels may name.
        ignore_label: pixels with this label count for nothing.
        reduce_zero_label: raw 0 means "no class" and raw k means class k - 1 (ADE20K's own files).

    Raises:
        DataError: the file is missing, unreadable, has several channels, or a label outside the class list.
    """
    sem_seg = read_array(path)
    if sem_seg.ndim != 2:
        raise DataError(f"label file {path} has {sem_seg.shape[-1]} channels: labels are single-channel images")
    sem_seg = sem_seg.astype(np.int64)
    if reduce_zero_label:
        # an ignored raw label stays ignored; 0 becomes ignored; the others move down by one
        sem_seg = np.where((sem_seg == 0) | (sem_seg == ignore_label), ignore_label, sem_seg - 1)
    wrong = sem_seg[(sem_seg != ignore_label) & ((sem_seg < 0) | (sem_seg >= num_classes))]
    if wrong.size:
        raise DataError(
            f"label file {path} has label {wrong.flat[0]}, but the dataset has {num_classes} classes (ignored: "
            f"{ignore_label}): the class list and the labels do not belong together"
        )
    return sem_seg


def check_same_size(image: tuple[int, int], labels: tuple[int, int], image_name: str, labels_name: str) -> None:
    """Refuse labels of another picture than the upright image.

    Args:
        image, labels: (H, W) of each.
        image_name, labels_name: what the message calls them.

    Raises:
        DataError: the sizes differ.
    """
    if image == labels:
        return
    remedy = "prepare the labels again"
    if image == labels[::-1]:
        remedy = "remove the image's EXIF orientation, or turn the labels with it"
    raise DataError(
        f"{labels_name} is {labels[1]}x{labels[0]}, its image {image_name} is {image[1]}x{image[0]} upright: {remedy}"
    )


@dataclass(frozen=True)
class LabelFormat:
    """How the label files of a dataset are read; see :func:`read_sem_seg`.

    Raises:
        DataError: the ignored label is a class.
    """

    num_classes: int
    ignore_label: int = 255
    reduce_zero_label: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.ignore_label, int) or 0 <= self.ignore_label < self.num_classes:
            raise DataError(
                f"ignore_label is {self.ignore_label!r}, but labels 0 to {self.num_classes - 1} are classes: choose a "
                "label beyond them, such as 255 or 65535"
            )

    @classmethod
    def of(cls, metadata) -> "LabelFormat":
        """From a dataset's metadata."""
        return cls(
            len(metadata.stuff_classes), metadata.get("ignore_label", 255), metadata.get("reduce_zero_label", False)
        )

    def read(self, path: str | Path) -> np.ndarray:
        """A label file as H×W int64."""
        return read_sem_seg(
            path,
            num_classes=self.num_classes,
            ignore_label=self.ignore_label,
            reduce_zero_label=self.reduce_zero_label,
        )


@contextmanager
def _opened(source: str | Path | bytes, name: str) -> Iterator[Image.Image]:
    """The image of a file or of bytes; whatever PIL finds wrong with it, here or while decoding, is a DataError."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist: the dataset is incomplete, prepare or download it again") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read ({error}): replace or remove it") from error
