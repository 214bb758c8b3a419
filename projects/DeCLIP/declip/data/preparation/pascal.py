"""PASCAL VOC 2012 (VOC-20 and VOC-21) and PASCAL-Context (459, 60 and 59 classes)."""

from functools import partial
from pathlib import Path

import numpy as np

from d2host.engine.errors import DataError
from declip.data.benchmarks import WIDE_IGNORE
from declip.data.class_lists import load_class_list
from declip.data.preparation.conversion import (
    convert_all,
    find_sources,
    look_up,
    pair_up,
    remap_table,
    write_labels,
)
from declip.data.preparation.matlab import read_matrix
from declip.data.reading import read_array
from declip.data.records import twice
from declip.data.text_files import read_text

IGNORE = 255
VOC = Path("VOCdevkit/VOC2012")
VOC_REMEDY = "unpack VOCtrainval_11-May-2012.tar of PASCAL VOC 2012 into the data root"
CONTEXT = Path("VOCdevkit/VOC2010")
CONTEXT_REMEDY = "unpack trainval.tar.gz of PASCAL-Context into VOCdevkit/VOC2010"
CONTEXT_LIST = "pascalcontext_val.txt"
ALIASES = {"table": "diningtable"}  # the name in labels.txt → the name in the lists of 59 and 60 classes


def voc_table(background: int) -> np.ndarray:
    """VOC values (0 background, 1 to 20 objects, 255 border) → 0 to 19 objects; background becomes ``background``."""
    return remap_table({0: background, IGNORE: IGNORE, **{value: value - 1 for value in range(1, 21)}}, 256)


def convert_voc(source: Path, target: Path, *, table: np.ndarray) -> None:
    """One VOC palette label file through a table."""
    write_labels(target, look_up(read_array(source), table, source))


def prepare_voc(root: Path, workers: int) -> dict[str, int]:
    """``annotations_detectron2/val`` without background, ``annotations_detectron2_bg/val`` with it as class 20."""
    listing = root / VOC / "ImageSets/Segmentation/val.txt"
    sources = [root / VOC / "SegmentationClass" / f"{name}.png" for name in read_list(listing, VOC_REMEDY)]
    made = {}
    for folder, background in (("annotations_detectron2", IGNORE), ("annotations_detectron2_bg", 20)):
        name = str(VOC / folder / "val")
        convert = partial(convert_voc, table=voc_table(background))
        made[name] = convert_all(pair_up(sources, root / name, ".png"), convert, workers, name)
    return made


def read_list(path: Path, remedy: str) -> list[str]:
    """The stems of a list file.

    Raises:
        DataError: it does not exist, is empty, or lists a stem twice or what is none.
    """
    names = read_text(path.absolute(), "list", remedy).split()
    if not names:
        raise DataError(f"list {path.absolute()} is empty: {remedy}")
    paths = [name for name in names if Path(name).name != name or "\0" in name]
    if paths or (repeated := twice(names)):
        trouble = f"lists '{paths[0][:80]}', which is no stem" if paths else f"lists '{repeated[0]}' twice"
        raise DataError(f"list {path.absolute()} {trouble}: {remedy}")
    return names


def context_names(path: Path) -> dict[str, int]:
    """Name → value of the 459 classes, from PASCAL-Context's ``labels.txt`` (lines ``value: name``).

    Raises:
        DataError: the file is missing or has no such lines, or repeats a value or a name.
    """
    lines = read_text(path.absolute(), "list", CONTEXT_REMEDY).splitlines()
    pairs = [(value.strip(), name.strip()) for value, colon, name in (line.partition(":") for line in lines) if colon]
    values = {name: int(value) for value, name in pairs if value.isdecimal() and len(value) < 6}
    if not values:
        raise DataError(f"{path.absolute()} holds no line 'value: name': {CONTEXT_REMEDY}")
    if len(values) < len(pairs) or len(set(values.values())) < len(values) or max(values.values()) > WIDE_IGNORE:
        raise DataError(f"{path.absolute()} repeats a value or a name, or has a value of no sense: {CONTEXT_REMEDY}")
    return values


def context_table(names: dict[str, int], classes: list[str], default: int) -> np.ndarray:
    """Values of PASCAL-Context → indices into ``classes``, ``default`` for every other value.

    Raises:
        DataError: a class has no value.
    """
    values = {ALIASES.get(name, name): value for name, value in names.items()} | names
    missing = [name for name in classes if name not in values and name != "background"]
    if missing:
        raise DataError(f"labels.txt of PASCAL-Context lacks {', '.join(missing[:5])}: unpack it again")
    mapping = {values[name]: label for label, name in enumerate(classes) if name != "background"}
    return remap_table(mapping, max(*names.values(), len(names)) + 1, default)


def convert_context(source: Path, target: Path, *, table: np.ndarray) -> None:
    """The ``LabelMap`` of one .mat file through a table."""
    write_labels(target, look_up(read_matrix(source, "LabelMap"), table, source))


def prepare_context(root: Path, workers: int) -> dict[str, int]:
    """``annotations_detectron2/{pc459,pc60,pc59}_val``."""
    names = context_names(root / CONTEXT / "labels.txt")
    find_sources(root / CONTEXT / "trainval", "*.mat", CONTEXT_REMEDY)
    stems = read_list(root / CONTEXT / CONTEXT_LIST, f"put the list of validation images there as {CONTEXT_LIST}")
    sources = [root / CONTEXT / "trainval" / f"{stem}.mat" for stem in stems]
    made = {}
    for folder, classes, default, suffix in (
        ("pc459_val", "pascal_context_459", WIDE_IGNORE, ".tif"),
        ("pc60_val", "pascal_context_60", 0, ".png"),
        ("pc59_val", "pascal_context_59", IGNORE, ".png"),
    ):
        name = str(CONTEXT / "annotations_detectron2" / folder)
        convert = partial(convert_context, table=context_table(names, load_class_list(classes), default))
        made[name] = convert_all(pair_up(sources, root / name, suffix), convert, workers, name)
    return made
