"""A numeric matrix of a MATLAB file of level 5 (what MATLAB 5 to 7 write; 7.3 is HDF5).

``scipy.io.loadmat`` is not used: some damaged files crash the process in its compiled part (an element of an unknown
type), and a compressed file makes it take whatever memory the file asks for.

Source: MAT-File Format (MathWorks), chapter "Level 5 MAT-File Format".
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from d2host.engine.errors import DataError

MOST_BYTES = 2**26  # of a file, and of what is decompressed from it
HEADER = 128
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # of matrices: double, single, and integers of 8 to 64 bits
COMPLEX = 8  # a flag


def read_matrix(path: Path, name: str) -> np.ndarray:
    """The matrix of a name: rows×columns, whole numbers int64.

    Raises:
        DataError: the file is missing, damaged or of another version, has no such matrix, or it holds no whole numbers.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"label file {path} has more than {MOST_BYTES:,} bytes: unpack it again")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"label file {path} does not exist: unpack the dataset again") from error
    except OSError as error:
        raise DataError(f"label file {path} cannot be read ({error}): unpack it again") from error
    if raw.startswith(b"MATLAB 7.3"):
        raise DataError(f"label file {path} is of MATLAB 7.3: save it again as version 7 (save -v7)")
    order = {b"IM": "<", b"MI": ">"}.get(raw[HEADER - 2 : HEADER])
    if order is None:
        raise DataError(f"label file {path} is no MATLAB file of version 5 to 7: unpack it again")
    try:
        matrix = _find_matrix(raw[HEADER:], order, name)
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"label file {path} is damaged ({error}): unpack it again") from error
    if matrix is None:
        raise DataError(f"label file {path} has no {name}, a matrix of numbers: unpack it again")
    whole = np.rint(matrix) if matrix.dtype.kind == "f" else matrix
    if not np.isfinite(matrix).all() or (whole != matrix).any() or np.abs(whole).max(initial=0) >= 2**31:
        raise DataError(f"{name} of label file {path} does not hold whole numbers only: unpack it again")
    return whole.astype(np.int64)


def _find_matrix(raw: bytes, order: str, name: str) -> np.ndarray | None:
    for kind, content in _elements(raw, order):
        if kind == COMPRESSED:
            inflater = zlib.decompressobj()
            content = inflater.decompress(content, MOST_BYTES)
            if not inflater.eof:
                raise ValueError("compressed data is cut off or too large")
            kind, content = next(_elements(content, order), (0, b""))
        if kind != MATRIX:
            continue
        flags, shape, label, *values = _elements(content, order)
        if label[1] != name.encode():
            continue
        (flag_word, _), sides = struct.unpack(f"{order}2I", flags[1]), np.frombuffer(shape[1], f"{order}i4").tolist()
        if flag_word & 255 not in NUMERIC_CLASSES or flag_word >> 8 & COMPLEX or len(values) != 1:
            return None
        if values[0][0] not in NUMBERS or len(sides) != 2:
            raise ValueError(f"numbers of type {values[0][0]}, {len(sides)} axes")
        return np.frombuffer(values[0][1], order + NUMBERS[values[0][0]]).reshape(sides, order="F")
    return None


def _elements(raw: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element; those of up to four bytes stand within their tag."""
    position = 0
    while position + 8 <= len(raw):
        kind, size = struct.unpack_from(f"{order}2I", raw, position)
        start = position + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        if start + size > len(raw) or (start == position + 4 and size > 4):
            raise ValueError("an element is cut off")
        yield kind, raw[start : start + size]
        end = start + size
        position = end if kind == COMPRESSED else end + -end % 8
