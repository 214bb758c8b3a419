"""Reading images and label maps, any bit depth, with errors that name the file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from d2host.engine.errors import DataError


def read_image(path: str | Path) -> np.ndarray:
    """An image file as H×W×3 uint8 RGB, turned as its EXIF orientation says.

    Raises:
        DataError: the file is missing or no readable image.
    """
    with _opened(path, "image") as image:
        return _decoded(path, lambda: np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


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
    with _opened(path, "label file") as image:
        if len(image.getbands()) != 1:
            raise DataError(f"label file {path} has {len(image.getbands())} channels: labels are single-channel images")
        sem_seg = _decoded(path, lambda: np.asarray(image).astype(np.int64))
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


@dataclass(frozen=True)
class LabelFormat:
    """How the label files of a dataset are read; see :func:`declip.data.reading.read_sem_seg`."""

    num_classes: int
    ignore_label: int = 255
    reduce_zero_label: bool = False

    @classmethod
    def of(cls, metadata) -> "LabelFormat":
        """From a dataset's metadata."""
        return cls(
            len(metadata.stuff_classes), metadata.get("ignore_label", 255), metadata.get("reduce_zero_label", False)
        )

    def read(self, path: str) -> np.ndarray:
        """A label file as H×W int64."""
        return read_sem_seg(
            path,
            num_classes=self.num_classes,
            ignore_label=self.ignore_label,
            reduce_zero_label=self.reduce_zero_label,
        )


def _opened(path: str | Path, kind: str) -> Image.Image:
    if not Path(path).is_file():
        raise DataError(f"{kind} {path} does not exist: the dataset is incomplete, prepare or download it again")
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{kind} {path} is not a readable image: replace or remove it") from error


def _decoded(path: str | Path, decode) -> np.ndarray:
    try:
        return decode()
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be decoded ({error}): replace or remove it") from error
