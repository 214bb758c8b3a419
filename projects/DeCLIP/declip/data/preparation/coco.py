"""COCO-Stuff 164k and COCO-Object from the stuff-thing maps of COCO-Stuff.

A stuff-thing map holds COCO category ids minus one: 0 to 90 things, 91 to 181 stuff, 255 unlabelled. Eleven of the 91
thing ids were never used, so 80 things and 91 stuffs remain.
"""

from functools import partial
from pathlib import Path

import numpy as np

from declip.data.preparation.conversion import (
    convert_all,
    find_sources,
    look_up,
    pair_up,
    remap_table,
    write_labels,
)
from declip.data.reading import read_array

UNUSED_IDS = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
NUM_THING_IDS, NUM_IDS, UNLABELLED = 91, 182, 255
REMEDY = "unpack stuffthingmaps_trainval2017.zip of COCO-Stuff into coco/stuffthingmaps"


def stuff_table() -> np.ndarray:
    """Stuff-thing values → 171 contiguous labels, things first; 255 stays."""
    used = [value for value in range(NUM_IDS) if value not in UNUSED_IDS]
    return remap_table({**{value: label for label, value in enumerate(used)}, UNLABELLED: UNLABELLED}, 256)


def object_table() -> np.ndarray:
    """Stuff-thing values → 1 to 80 for things, 0 (background) for everything else."""
    things = [value for value in range(NUM_THING_IDS) if value not in UNUSED_IDS]
    rest = {value: 0 for value in (*range(NUM_THING_IDS, NUM_IDS), UNLABELLED)}
    return remap_table({**{value: label for label, value in enumerate(things, start=1)}, **rest}, 256)


def convert_map(source: Path, target: Path, *, table: np.ndarray) -> None:
    """One stuff-thing map through a table."""
    write_labels(target, look_up(read_array(source), table, source))


def prepare_coco_stuff(root: Path, workers: int) -> dict[str, int]:
    """``coco/stuffthingmaps_detectron2/{train,val}2017``."""
    return {
        name: _prepare(root, split, name, stuff_table(), workers)
        for split in ("val2017", "train2017")  # evaluation needs the smaller one only
        for name in (f"coco/stuffthingmaps_detectron2/{split}",)
    }


def prepare_coco_object(root: Path, workers: int) -> dict[str, int]:
    """``coco/annotations_object/val2017``."""
    name = "coco/annotations_object/val2017"
    return {name: _prepare(root, "val2017", name, object_table(), workers)}


def _prepare(root: Path, split: str, target: str, table: np.ndarray, workers: int) -> int:
    sources = find_sources(root / "coco/stuffthingmaps" / split, "*.png", REMEDY)
    return convert_all(pair_up(sources, root / target, ".png"), partial(convert_map, table=table), workers, target)
