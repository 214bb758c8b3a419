"""Reading images and labels, any bit depth, with errors that name the file.

Shape legend
    H, W  image, upright

Every image that the project reads comes through :func:`read_image`, so that all parts see the same pixels:

- RGB, 8 bits, upright, that is, turned as its EXIF orientation says; of several frames the first, and the log says so.
- 16-bit (and 12-bit) files keep the range that their depth can hold: their upper 8 bits count. Floats and 32-bit
  numbers have no such range and are refused.
- Transparent pixels lie on white, as viewers show them; a wholly transparent image is refused.
- Colour profiles are not applied: values count as sRGB, as they did where the public encoders were trained.
- The format is what the bytes say, whatever the ending: :data:`declip.data.opening.FORMATS`.

Label files hold arrays of numbers and are read as stored, so labels belong to the upright image. How large both may be
is said in :mod:`declip.data.opening`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.opening import PIL_FAULTS, check_size, faults_of, opened_image, raw_mode

STRIP_PIXELS = 2**22  # converted at a time
ORIENTATION, BITS_PER_SAMPLE = 0x0112, 0x0102  # tags of EXIF and TIFF
WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")

# stored pixels as a view of the upright ones, by EXIF orientation
AS_STORED: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def read_image(source: str | Path | BinaryIO, *, name: str = "", least_side: int = 0) -> np.ndarray:
    """An image as H×W×3 uint8 RGB, upright; the module says what becomes of other kinds.

    Args:
        source: a path, or an open file.
        name: what messages call it; empty: its path.
        least_side: a JPEG may be decoded at a half, quarter or eighth of its size, which is faster, as long as both
            sides stay at least this; 0: full size.

    Raises:
        DataError: the file is missing, too large, or no readable image.
    """
    name = f"image {name or source}"
    with opened_image(source, name) as image:
        if least_side:
            with faults_of(name):
                image.draft("RGB", (least_side, least_side))
        return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str) -> np.ndarray:
    """The pixels of a PIL image as :func:`read_image` gives them; ``name`` is what messages call it.

    Raises:
        DataError: it is too large, cannot be decoded, or its values have no range.
    """
    check_size(image.size[::-1], name)
    with faults_of(name):
        image.load()
    try:
        turned = image.format == "TIFF"  # by PIL, while decoding
        orientation = 1 if turned else image.getexif().get(ORIENTATION, 1)
    except PIL_FAULTS as error:
        logging.getLogger(__name__).warning("%s has damaged EXIF data (%s): it is taken for upright", name, error)
        orientation = 1
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not sixteen_bits:
        kind = {"I": "32-bit numbers", "F": "floating-point numbers"}[image.mode]
        raise DataError(f"{name} holds {kind}, whose range is not known: save it with 8 or 16 bits a channel")
    depth = 12 if image.format == "TIFF" and image.tag_v2.get(BITS_PER_SAMPLE) == (12,) else 16
    transparent = image.mode in WITH_ALPHA or ("transparency" in image.info and not sixteen_bits)
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation in (5, 6, 7, 8) else (height, width, 3), np.uint8)
    stored = AS_STORED.get(orientation, lambda upright: upright)(upright)
    shows = not transparent
    rows = max(STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        with faults_of(name):
            strip = image.crop((0, top, width, min(top + rows, height)))
            if transparent:
                strip = strip.convert("RGBA")
                shows = shows or strip.getextrema()[3][1] > 0
                strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
            pixels = np.asarray(strip if sixteen_bits else strip.convert("RGB"))
        stored[top : top + rows] = (pixels >> depth - 8)[..., None] if sixteen_bits else pixels
    if not shows:
        raise DataError(f"{name} is wholly transparent: save it without its alpha channel")
    return upright


def read_size(source: str | Path | BinaryIO, *, name: str = "") -> tuple[int, int]:
    """(H, W) of an image as :func:`read_image` would give it, from its header alone.

    Args:
        source: a path, or an open file.
        name: what messages call it; empty: its path.

    Raises:
        DataError: the file is missing or no image.
    """
    name = f"image {name or source}"
    with opened_image(source, name) as image:
        with faults_of(name):
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


def read_array(path: str | Path) -> np.ndarray:
    """The whole numbers of a label file as stored: H×W of a single-channel or palette image, else H×W×channels.

    Raises:
        DataError: the file is missing, unreadable, or of a kind that does not keep labels (JPEG, fractions, 16 bits a
            colour).
    """
    name = f"label file {path}"
    with opened_image(path, name) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{name} is a JPEG, which does not keep values as they were: save labels as PNG")
        raw = raw_mode(image)
        if image.mode in ("RGB", "RGBA") and ";16" in raw:
            raise DataError(f"{name} has 16 bits a colour, of which 8 would be lost: save it with 8")
        with faults_of(name):
            array = np.asarray(image)
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.trunc(array)).all() and abs(array).max() < 2**31):
            raise DataError(f"{name} holds numbers that are not whole: labels are whole numbers")
        return array.astype(np.int64)
    if array.dtype == bool:
        return array.astype(np.uint8)
    # PIL stretches grey values of 2 and 4 bits over 0 to 255
    return array // {"L;2": 85, "L;4": 17}[raw] if raw in ("L;2", "L;4") else array


def read_sem_seg(
    path: str | Path, *, num_classes: int, ignore_label: int, reduce_zero_label: bool = False
) -> np.ndarray:
    """A label file as H×W int64 class indices.

    Files of 1 to 32 bits, palette files among them, keep their values.

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
