"""Cityscapes with its 19 evaluation classes, from the label-id files of gtFine."""

from pathlib import Path

import numpy as np

from declip.data.preparation.conversion import (
    convert_all,
    find_sources,
    look_up,
    remap_table,
    write_labels,
)
from declip.data.reading import read_array

IGNORE, NUM_IDS = 255, 34
EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # in train-id order
REMEDY = "unpack gtFine_trainvaltest.zip of Cityscapes into cityscapes/gtFine"
SOURCE_ENDING, IMAGE_ENDING = "_gtFine_labelIds", "_leftImg8bit"


def cityscapes_table() -> np.ndarray:
    """Label ids → train ids; ids that are not evaluated become 255."""
    mapping = {value: label for label, value in enumerate(EVALUATED_IDS)}
    ignored = {value: IGNORE for value in range(NUM_IDS) if value not in mapping}
    return remap_table({**mapping, **ignored}, NUM_IDS)


def convert_cityscapes(source: Path, target: Path) -> None:
    """One label-id file."""
    write_labels(target, look_up(read_array(source), cityscapes_table(), source))


def prepare_cityscapes(root: Path, workers: int) -> dict[str, int]:
    """``cityscapes/annotations_detectron2/val``, files named as their images."""
    name = "cityscapes/annotations_detectron2/val"
    sources = find_sources(root / "cityscapes/gtFine/val", f"*{SOURCE_ENDING}.png", REMEDY)
    pairs = [(file, root / name / f"{file.stem.removesuffix(SOURCE_ENDING)}{IMAGE_ENDING}.png") for file in sources]
    return {name: convert_all(pairs, convert_cityscapes, workers, name)}
