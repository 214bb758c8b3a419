"""From a path to an image that PIL can decode, within bounds: what is too large, or no file, is refused unread.

An image has at most :data:`MOST_PIXELS` (:data:`MOST_WEBP_PIXELS`), its file at most :data:`MOST_BYTES`. A named
pipe, a device or a folder is never opened, whatever its name. PIL bounds what a file says beside its pixels (texts,
profiles).
"""

import logging
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from d2host.engine.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
"""PIL's names of the formats that are read, as far as PIL was built with them."""
MOST_PIXELS, MOST_BYTES = 200_000_000, 2**31
MOST_WEBP_PIXELS = 100_000_000  # whose decoder needs twice the memory of the others

PIL_FAULTS = (
    *(OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, ArithmeticError, AssertionError),
    *(AttributeError, RuntimeError, MemoryError, struct.error, zlib.error, tarfile.TarError),
    Image.DecompressionBombError,
)
"""What PIL's decoders raise on damaged files, alone or inside a tar file."""


@contextmanager
def opened_file(path: str | Path, name: str) -> Iterator[BinaryIO]:
    """A file, open for reading.

    Args:
        path: of the file.
        name: what messages call it.

    Raises:
        DataError: it is missing, empty, too large, no file, or cannot be opened.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{name} cannot be read (a folder, a pipe or a device, no file): replace or remove it")
        if not 0 < status.st_size <= MOST_BYTES:
            raise DataError(
                f"{name} cannot be read (it has {status.st_size:,} bytes, of 1 to {MOST_BYTES:,}): replace or remove it"
            )
        file = open(path, "rb")  # noqa: SIM115 (closed below: what is done with it is not caught here)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist: the dataset is incomplete, prepare or download it again") from error
    except (OSError, ValueError) as error:
        trouble = getattr(error, "strerror", None) or error
        raise DataError(f"{name} cannot be read ({trouble}): replace or remove it") from error
    with file:
        yield file


@contextmanager
def opened_image(source: str | Path | BinaryIO, name: str) -> Iterator[Image.Image]:
    """An image whose header has been read and whose size is within bounds; its pixels are not decoded yet.

    Args:
        source: a path, or an open file.
        name: what messages call it.

    Raises:
        DataError: see :func:`opened_file`; or the file is in none of the :data:`FORMATS`.
    """
    if isinstance(source, str | Path):
        with opened_file(source, name) as file, opened_image(file, name) as image:
            yield image
        return
    with faults_of(name):
        image = _identify(source)
    if image is None:
        raise DataError(f"{name} cannot be read (its format is none of {', '.join(FORMATS)}): replace or remove it")
    with image:
        check_size(image.size[::-1], name, MOST_WEBP_PIXELS if image.format == "WEBP" else MOST_PIXELS)
        with faults_of(name):
            frames = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a phone's photo and extras
        if frames:
            logging.getLogger(__name__).warning("%s has several frames: the first is read", name)
        yield image


def _identify(file: BinaryIO) -> Image.Image | None:
    """What ``Image.open`` gives, without its limit of size, which is the process's, and its warning."""
    Image.init()
    prefix = file.read(16)
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory and accepts(prefix) is True:  # a text says what PIL was built without
            file.seek(0)
            return factory(file, "")
    return None


def check_size(size: tuple[int, int], name: str, most: int = MOST_PIXELS) -> None:
    """Refuse an image by its (height, width), before it is decoded.

    Raises:
        DataError: it has no pixel, or more than ``most``.
    """
    height, width = size
    if not 0 < width * height <= most:
        raise DataError(f"{name} cannot be read ({width}x{height} pixels, of 1 to {most:,}): make it smaller")


def raw_mode(image: Image.Image) -> str:
    """How the bytes of an image that is not decoded yet hold its pixels, in PIL's words; empty: unknown.

    >>> raw_mode(Image.new("L", (4, 4)))
    ''
    """
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


@contextmanager
def faults_of(name: str) -> Iterator[None]:
    """Around calls of PIL alone: whatever it finds wrong with an image is a DataError that names it."""
    try:
        yield
    except PIL_FAULTS as error:
        trouble = str(error) or type(error).__name__
        raise DataError(f"{name} cannot be read ({trouble}): replace or remove it") from error
