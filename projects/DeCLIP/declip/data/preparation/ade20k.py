"""ADE20K: the scene-parsing benchmark with 150 classes, and the full dataset with 847.

In the full dataset's ``*_seg.png`` a pixel's class is ``R // 10 * 256 + G``, an index (from 1) into the ``objectnames``
of ``index_ade20k.pkl``.
"""

import os
import pickle
import pickletools
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from PIL import Image
from tqdm import tqdm

from d2host.engine.errors import DataError
from declip.data.benchmarks import WIDE_IGNORE
from declip.data.class_lists import load_class_list
from declip.data.folder_dataset import UNFINISHED
from declip.data.preparation.conversion import convert_all, filling, find_sources, remap_table, write_labels, writing
from declip.data.reading import check_same_size, read_array, read_image
from declip.data.records import INSIDE

BENCHMARK, ARCHIVE = "ADEChallengeData2016", "ADEChallengeData2016.zip"
FULL = Path("ADE20K_2021_17_01")
FULL_REMEDY = "request ADE20K (full) at groups.csail.mit.edu/vision/datasets/ADE20K and unpack it into the data root"
MOST_BYTES, MOST_BYTES_IN_ALL = 2**28, 2**34  # of a file in the archive, and of all that is unpacked; published: 1 GB
ENCRYPTED, COMPRESSIONS = 1, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # a flag and methods of zip files
SHORTEST_SIDE = 512  # of the full dataset's images as they are evaluated
MOST_INDEX_BYTES, PUTS = 2**30, ("PUT", "BINPUT", "LONG_BINPUT")
UNPICKLING_ERRORS = (  # the unpickler calls what the file says with whatever arguments it says
    *(pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError, ImportError, OSError),
    *(MemoryError, ArithmeticError, RecursionError, SystemError),
)
ALLOWED = {
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
}


def prepare_ade20k_150(root: Path, workers: int) -> dict[str, int]:
    """Unpack the archive where it lies in the root and has not been unpacked; labels are used as they are."""
    del workers
    archive, made = root / ARCHIVE, {}
    if os.path.isfile(archive):
        try:
            with zipfile.ZipFile(archive) as content:
                made = _extract(content, archive, root)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{archive} cannot be unpacked ({error}): download it again") from error
    find_sources(root / BENCHMARK / "annotations/validation", "*.png", f"put {ARCHIVE} into {root} and run again")
    return made or {BENCHMARK: 0}


def _extract(content: zipfile.ZipFile, archive: Path, root: Path) -> dict[str, int]:
    """Unpack the benchmark's files that are not there in full; returns how many, by folder.

    Raises:
        DataError: the archive is another, leads out of its folder, is encrypted or too large; a file cannot be written.
    """
    members = [member for member in content.infolist() if not member.is_dir()]
    if outside := [member.filename for member in members if not INSIDE.holds(member.filename)]:
        raise DataError(f"{archive} holds {outside[0]!r}, which leads out of its folder: download it again")
    members = [member for member in members if PurePath(member.filename).parts[0] == BENCHMARK]
    missing = [member for member in members if not _is_there(root / member.filename, member)]
    if not members:
        raise DataError(f"{archive} holds no {BENCHMARK}: download it again")
    if any(member.flag_bits & ENCRYPTED or member.compress_type not in COMPRESSIONS for member in members):
        raise DataError(f"{archive} is encrypted or compressed in an unusual way: download it again")
    needed = sum(member.file_size for member in missing)
    largest, free = max(member.file_size for member in members), shutil.disk_usage(root).free
    if largest > MOST_BYTES or needed > MOST_BYTES_IN_ALL:
        raise DataError(f"{archive} would unpack to {needed:,} bytes, a file of {largest:,} among them: it is another")
    if needed > free:
        raise DataError(f"{archive} unpacks to {needed:,} bytes, {free:,} are free in {root}: make room and run again")
    made = Counter(str(PurePath(member.filename).parent) for member in missing)
    folders = {(root / member.filename).parent for member in members}
    if missing or any(os.path.lexists(folder / UNFINISHED) for folder in folders):
        with filling(*folders), tqdm(missing, desc=ARCHIVE, unit="file") as bar:
            for member in bar:
                data = content.read(member)
                with writing(root / member.filename) as temporary:
                    temporary.write_bytes(data)
    return dict(made)


def _is_there(file: Path, member: zipfile.ZipInfo) -> bool:
    return os.path.isfile(file) and os.path.getsize(file) == member.file_size


class _Array:
    """Stands for what numpy would make of a pickle: a damaged state can crash numpy, and names are all that is read."""

    values: Sequence = ()

    def __init__(self, *arguments) -> None:
        pass

    def __setstate__(self, state) -> None:
        if isinstance(state, tuple) and isinstance(state[-1], list):
            self.values = state[-1]  # of an array of objects


class _IndexUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists and strings; numpy is not called, anything else a pickle may ask for is refused."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which an index of ADE20K does not hold")
        return _Array


def object_names(path: Path) -> list[str]:
    """The ``objectnames`` of ``index_ade20k.pkl``, whose position plus one is a pixel's class.

    Raises:
        DataError: missing, too large, corrupt, or asking for code.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path.absolute()} does not exist: {FULL_REMEDY}")
    try:
        size = path.stat().st_size
        if size > MOST_INDEX_BYTES:
            raise ValueError(f"{size:,} bytes")
        with open(path, "rb") as file:
            # the unpickler makes a memo as long as the largest index in it asks for, before it uses any
            memo = max((each[1] for each in pickletools.genops(file) if each[0].name in PUTS), default=0)
            if memo > size:
                raise ValueError(f"a memo of {memo:,}")
            file.seek(0)
            names = _IndexUnpickler(file).load()["objectnames"]
            names = names.values if isinstance(names, _Array) else names
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError("'objectnames' is no list of texts")
        return list(names)
    except UNPICKLING_ERRORS as error:
        raise DataError(f"{path} is no index of ADE20K ({error}): unpack it again") from error


def full_table(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Pixel classes of the full dataset → indices into ``classes``, ignored where a class is not among them.

    Raises:
        DataError: a class does not occur in ``names``.
    """
    value = {_normal(name): index for index, name in enumerate(names, start=1)}
    missing = [name for name in classes if _normal(name) not in value]
    if missing:
        raise DataError(f"{len(missing)} classes are not in the index of ADE20K, among them '{missing[0]}'")
    mapping = {value[_normal(name)]: label for label, name in enumerate(classes)}
    return remap_table(mapping, len(names) + 1, WIDE_IGNORE)


def _normal(name: str) -> str:
    return ",".join(part.strip() for part in name.lower().split(","))


def convert_full(source: Path, target: Path, *, table: np.ndarray, images: Path) -> None:
    """One ``*_seg.png`` and its image, both shrunk to a shorter side of 512."""
    colors = read_array(source)
    if colors.ndim != 3 or colors.shape[-1] < 3 or colors.dtype != np.uint8:
        raise DataError(f"label file {source} is no colour image: unpack ADE20K again")
    values = colors[..., 0].astype(np.int64) // 10 * 256 + colors[..., 1]
    if values.max() >= len(table):
        raise DataError(f"label file {source} names class {values.max()} of {len(table) - 1}: unpack ADE20K again")
    image_file = source.with_name(source.name.replace("_seg.png", ".jpg"))
    pixels = read_image(image_file)
    check_same_size(pixels.shape[:2], values.shape, str(image_file), f"label file {source}")
    image, labels = Image.fromarray(pixels), Image.fromarray(table[values].astype(np.int32))
    if min(image.size) > SHORTEST_SIDE:
        size = tuple(round(length * SHORTEST_SIDE / min(image.size)) for length in image.size)
        image, labels = image.resize(size, Image.BILINEAR), labels.resize(size, Image.NEAREST)
    with writing(images / f"{target.stem}.jpg") as temporary:
        image.save(temporary, quality=95)
    write_labels(target, np.asarray(labels))


def prepare_ade20k_847(root: Path, workers: int) -> dict[str, int]:
    """``images_detectron2/validation`` and ``annotations_detectron2/validation`` of the full dataset."""
    name = str(FULL / "annotations_detectron2/validation")
    table = full_table(object_names(root / FULL / "index_ade20k.pkl"), load_class_list("ade20k_847"))
    sources = find_sources(root / FULL / "images/ADE/validation", "*_seg.png", FULL_REMEDY)
    pairs = [(file, root / name / f"{file.stem.removesuffix('_seg')}.tif") for file in sources]
    images = root / FULL / "images_detectron2/validation"
    convert = partial(convert_full, table=table, images=images)
    return {name: convert_all(pairs, convert, workers, name, also=(images,))}
