"""Run-length codes of masks, as COCO has them: read far enough to know that they are whole.

What reads them for evaluation believes every length, and may be busy for hours with one that is wrong.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

MOST_CHARACTERS = 6  # of a run: 30 bits


def run_lengths_of(counts: str | bytes | Sequence[int]) -> np.ndarray:
    """The lengths of the runs, background first, column by column of the image: N int64.

    In a compressed code every character holds five bits above ``0``, the lowest first, and a sixth that says whether
    more of the number follow; the last one's highest bit is the sign. From the fourth run on it is the difference to
    the run before the last.

    Args:
        counts: compressed, or a list of lengths.

    Raises:
        ValueError: it is no such code.

    >>> run_lengths_of("52203")
    array([5, 2, 2, 2, 5])
    """
    if not isinstance(counts, str | bytes):
        return np.array(counts, np.int64).reshape(-1)
    code = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    if not code.size or code.min() < 0 or code.max() > 63 or code[-1] & 32:
        raise ValueError("a character is none of the code, or the last number is cut off")
    ends = np.flatnonzero(code & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > MOST_CHARACTERS:
        raise ValueError("a run is longer than any image")
    place = np.arange(code.size) - np.repeat(starts, digits)
    runs = np.add.reduceat((code & 31) << (5 * place), starts)
    runs -= np.where(code[ends] & 16, 1 << (5 * digits), 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def run_lengths(segmentation: list | Mapping, height: int, width: int) -> dict:
    """A ``segmentation`` of COCO, polygons or run-lengths, as compressed run-lengths.

    Polygons of two points, which COCO has some of, cover nothing.

    >>> run_lengths([[0, 0, 2, 0, 2, 2, 0, 2], [0, 0, 4, 4]], height=4, width=4)["counts"]
    b'02208'
    """
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) > 4]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else _nothing(height, width)
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(dict(segmentation), height, width)
    return dict(segmentation)


def _nothing(height: int, width: int) -> dict:
    return coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))


def fault_in_mask(segmentation: list | Mapping, height: int, width: int) -> str:
    """What is wrong with a run-length code of an image's mask; empty where nothing is, as of polygons.

    >>> fault_in_mask({"size": [4, 4], "counts": "52203"}, height=4, width=4)
    ''
    >>> fault_in_mask({"size": [4, 4], "counts": [5, 2, 2]}, height=4, width=4)
    'its mask has runs of 9 pixels, its image 16'
    """
    if not isinstance(segmentation, Mapping):
        return ""
    if list(segmentation["size"]) != [height, width]:
        return f"its mask is of {segmentation['size']} pixels, its image of {[height, width]}"
    try:
        runs = run_lengths_of(segmentation["counts"])
    except (ValueError, TypeError, OverflowError) as error:
        return f"its mask is no run-length code ({error})"
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        return f"its mask has runs of {runs[runs > 0].sum()} pixels, its image {height * width}"
    return ""
