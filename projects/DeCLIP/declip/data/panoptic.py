"""COCO panoptic annotations: segment ids in the colours of an image, and which segments are evaluated.

Source: the panoptic format of COCO (https://cocodataset.org/#format-data); the limits of area are those of region
classification (DeCLIP, Fig. 6).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from d2host.engine.errors import DataError
from declip.data.reading import read_array

LEAST_AREA, MOST_AREA = 8**2, 1024**2  # of a region that is evaluated, pixels


def read_panoptic(path: str | Path) -> np.ndarray:
    """The segment ids of a panoptic PNG, H×W int64: R + 256 G + 256² B of every pixel.

    Raises:
        DataError: the file is missing, unreadable, or no colour image.
    """
    colors = read_array(path)
    if colors.ndim != 3:
        raise DataError(f"panoptic label {path} is no colour image: give COCO's panoptic PNGs")
    return colors[..., :3].astype(np.int64) @ np.array([1, 256, 256**2])


def is_evaluated(segment: Mapping[str, Any]) -> bool:
    """Whether a segment of ``segments_info`` is a region to classify: no crowd, of a sensible area.

    >>> is_evaluated({"area": 100, "iscrowd": 0}), is_evaluated({"area": 100, "iscrowd": 1}), is_evaluated({"area": 9})
    (True, False, False)
    """
    return not segment.get("iscrowd") and LEAST_AREA <= segment["area"] <= MOST_AREA
