"""ADE20K: the scene-parsing benchmark with 150 classes, and the full dataset with 847.

In the full dataset's ``*_seg.png`` a pixel's class is ``R // 10 * 256 + G``, an index (from 1) into the ``objectnames``
of ``index_ade20k.pkl``.
"""

import io
import pickle
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.benchmarks import WIDE_IGNORE
from declip.data.class_lists import load_class_list
from declip.data.preparation.conversion import convert_all, find_sources, remap_table, write_labels
from declip.data.reading import read_array, read_image

BENCHMARK, ARCHIVE = "ADEChallengeData2016", "ADEChallengeData2016.zip"
FULL = Path("ADE20K_2021_17_01")
FULL_REMEDY = "request ADE20K (full) at groups.csail.mit.edu/vision/datasets/ADE20K and unpack it into the data root"
SHORTEST_SIDE = 512  # of the full dataset's images as they are evaluated
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
}


def prepare_ade20k_150(root: Path, workers: int) -> dict[str, int]:
    """Unpack the archive where it lies in the root and has not been unpacked; labels are used as they are."""
    del workers
    archive, made = root / ARCHIVE, {}
    if archive.is_file():
        try:
            with zipfile.ZipFile(archive) as content:
                for member in content.infolist():
                    if _extract(content, member, root):
                        folder = str(Path(member.filename).parent)
                        made[folder] = made.get(folder, 0) + 1
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{archive} cannot be unpacked ({error}): download it again") from error
    find_sources(root / BENCHMARK / "annotations/validation", "*.png", f"put {ARCHIVE} into {root} and run again")
    return made or {BENCHMARK: 0}


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path) -> bool:
    """Unpack one file unless it is there in full; returns whether it was unpacked."""
    target = root / member.filename
    if member.is_dir() or not target.resolve().is_relative_to(root.resolve()):
        return False
    if target.is_file() and target.stat().st_size == member.file_size:
        return False
    content.extract(member, root)
    return True


class _IndexUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, strings and numpy arrays; anything else a pickle may ask for is refused."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which an index of ADE20K does not hold")
        return super().find_class(module, name)


def object_names(path: Path) -> list[str]:
    """The ``objectnames`` of ``index_ade20k.pkl``, whose position plus one is a pixel's class.

    Raises:
        DataError: missing, corrupt, or asking for code.
    """
    if not path.is_file():
        raise DataError(f"{path.absolute()} does not exist: {FULL_REMEDY}")
    try:
        index = _IndexUnpickler(io.BytesIO(path.read_bytes())).load()
        return [str(name) for name in index["objectnames"]]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
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
    if colors.ndim != 3:
        raise DataError(f"label file {source} is no colour image: unpack ADE20K again")
    values = colors[..., 0].astype(np.int64) // 10 * 256 + colors[..., 1]
    if values.max() >= len(table):
        raise DataError(f"label file {source} names class {values.max()} of {len(table) - 1}: unpack ADE20K again")
    image = Image.fromarray(read_image(source.with_name(source.name.replace("_seg.png", ".jpg"))))
    labels = Image.fromarray(table[values].astype(np.int32))
    if min(image.size) > SHORTEST_SIDE:
        size = tuple(round(length * SHORTEST_SIDE / min(image.size)) for length in image.size)
        image, labels = image.resize(size, Image.BILINEAR), labels.resize(size, Image.NEAREST)
    images.mkdir(parents=True, exist_ok=True)
    image.save(images / f"{target.stem}.jpg", quality=95)
    write_labels(target, np.asarray(labels))


def prepare_ade20k_847(root: Path, workers: int) -> dict[str, int]:
    """``images_detectron2/validation`` and ``annotations_detectron2/validation`` of the full dataset."""
    name = str(FULL / "annotations_detectron2/validation")
    table = full_table(object_names(root / FULL / "index_ade20k.pkl"), load_class_list("ade20k_847"))
    sources = find_sources(root / FULL / "images/ADE/validation", "*_seg.png", FULL_REMEDY)
    pairs = [(file, root / name / f"{file.stem.removesuffix('_seg')}.tif") for file in sources]
    images = root / FULL / "images_detectron2/validation"
    return {name: convert_all(pairs, partial(convert_full, table=table, images=images), workers, name)}
