"""Region proposals: boxes that may hold an object, of many images, for distillation to learn from.

A file of them is ours (``.npz``, written by :func:`write_proposals`) or in COCO's format (``.json``: ``images`` and
``annotations`` with ``bbox``). Images are known by their file's name, wherever it lies.

Shape legend
    N  images        M  boxes of all of them        K  boxes of one

Source: CLIPSelf (ICLR 2024), whose stronger setting takes proposals of a detector instead of the cells of a grid.
"""

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from d2host.engine.errors import DataError
from declip.data.detection.annotations import OBJECT
from declip.data.detection.coco_json import stream_json
from declip.data.records import IDENTIFIER, SIDE, TEXT, fault_in, twice

REMEDY = "write it with tools/write_proposals.py, or give one in COCO's format"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, MemoryError, OverflowError)
UNREADABLE += (zipfile.BadZipFile, zlib.error)
"""What a damaged ``.npz`` raises."""

_IMAGE = {"id": IDENTIFIER, "file_name": TEXT, "height": SIDE, "width": SIDE}
_ANNOTATION = {"image_id": IDENTIFIER, "bbox": OBJECT["bbox"]}


@dataclass(frozen=True)
class Proposals:
    """Boxes by image.

    Attributes:
        source: the file, for messages.
        position: file name → position of the image.
        ends: N, of each image's boxes among all.
        boxes: M×4 float32 x0, y0, x1, y1, in parts of the image's sides; of an image in the order of the file.
    """

    source: str
    position: dict[str, int]
    ends: np.ndarray
    boxes: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """The boxes of an image, K×4, in parts of its sides.

        Args:
            name: its path, of which the file's name counts.

        Raises:
            DataError: there is no such image.
        """
        image = self.position.get(known_as(name))
        if image is None:
            raise DataError(f"{self.source} has no proposals for image {name}: {REMEDY}, of these images")
        return self.boxes[self.ends[image - 1] if image else 0 : self.ends[image]]

    def check(self, names: Iterable[str]) -> None:
        """Refuse images without proposals, before training reads the first.

        Raises:
            DataError: an image is not in the file.
        """
        missing = [name for name in names if known_as(name) not in self.position]
        if missing:
            raise DataError(
                f"{self.source} has no proposals for {len(missing)} images, among them {missing[0]}: {REMEDY}, of these"
            )


def known_as(name: str) -> str:
    """What an image is known by: its file's name, in a folder or in a shard.

    >>> known_as("train2017/9.jpg"), known_as("cc3m/00000.tar:9.jpg")
    ('9.jpg', '9.jpg')
    """
    return PurePath(name.replace(".tar:", ".tar/")).name


def check_names(names: Sequence[str], source: str) -> None:
    """Refuse images that cannot be told apart.

    Args:
        names: their files' names.
        source: where they are from, for the message.

    Raises:
        DataError: two images have one name.
    """
    if repeated := twice(names):
        raise DataError(f"{source} name image {repeated[0]} twice: images are known by their file's name")


def draw_proposals(
    rng: np.random.Generator, boxes: np.ndarray, size: tuple[int, int], patch: int, most: int
) -> np.ndarray:
    """Regions of one image to learn from: boxes of at least a patch along both sides, as many as there may be.

    Where there is no such box, the whole image is the region.

    Args:
        rng: what they are drawn by.
        boxes: K×4, in parts of the image's sides.
        size: (H, W) of the view, pixels.
        patch: pixels.
        most: of them.

    Returns:
        At most ``most``×4, in parts of the image's sides.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.array(size[::-1])
    fitting = (sides >= patch).all(axis=1).nonzero()[0]
    if not fitting.size:
        return np.array([[0, 0, 1, 1]], np.float32)
    return boxes[np.sort(rng.permutation(fitting)[:most])]


def write_proposals(path: Path, images: Iterable[tuple[str, tuple[int, int], np.ndarray]]) -> int:
    """Write proposals as ``.npz``; returns how many images they are of.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "boxes.npz")
    ...     write_proposals(path, [("a/street.jpg", (100, 200), np.array([[20, 10, 60, 50]]))])
    ...     load_proposals(path).of("b/street.jpg")
    1
    array([[0.1, 0.1, 0.3, 0.5]], dtype=float32)

    Args:
        path: of the file.
        images: of each its path, (H, W), and boxes x0, y0, x1, y1 in pixels, the likeliest first.
    """
    names, counts, parts = [], [], [np.zeros((0, 4), np.float32)]
    for name, (height, width), boxes in images:
        names.append(known_as(name))
        counts.append(len(boxes))
        parts.append((np.asarray(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]).astype(np.float32))
    with open(path, "wb") as file:
        np.savez(file, file_names=np.array(names, str), counts=np.array(counts, np.int64), boxes=np.concatenate(parts))
    return len(names)


def load_proposals(path: str | Path) -> Proposals:
    """Proposals of a ``.npz`` or ``.json`` file, whole.

    Raises:
        DataError: the file is missing or none, names an image twice, or has boxes that are none or leave their image.
    """
    read = _read_json if Path(path).suffix.lower() == ".json" else _read_arrays
    names, counts, boxes = read(path)
    check_names(names, f"proposals {path}")
    if not names:
        raise DataError(f"proposals {path} are of no image: {REMEDY}")
    tolerance = 1e-3  # of rounding to pixels
    right = np.isfinite(boxes) & (boxes >= -tolerance) & (boxes <= 1 + tolerance)
    faulty = (~right.all(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)).nonzero()[0]
    if faulty.size:
        image = names[int(np.searchsorted(np.cumsum(counts), faulty[0], side="right"))]
        raise DataError(f"proposals {path} have a box outside image {image}, or one that is none: {REMEDY}")
    return Proposals(str(path), {name: index for index, name in enumerate(names)}, np.cumsum(counts), boxes.clip(0, 1))


def _read_arrays(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        with np.load(path) as arrays:
            names, counts, boxes = (arrays[key] for key in ("file_names", "counts", "boxes"))
    except FileNotFoundError as error:
        raise DataError(f"proposals {path} do not exist: {REMEDY}") from error
    except UNREADABLE as error:
        raise DataError(f"proposals {path} cannot be read ({error}): {REMEDY}") from error
    integers = counts.dtype.kind in "iu" and counts.ndim == 1 and (counts >= 0).all()
    if names.shape != counts.shape or not integers or boxes.shape != (counts.sum(), 4) or boxes.dtype.kind != "f":
        raise DataError(f"proposals {path} have names, counts and boxes that do not fit each other: {REMEDY}")
    return names.tolist(), counts, boxes.astype(np.float32)


def _read_json(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    images: list[dict] = []
    found: dict[int | str, list[Sequence[float]]] = defaultdict(list)
    for key, value in stream_json(path, "proposals", REMEDY):
        if key in ("images", "annotations"):
            if fault := fault_in(value, _IMAGE if key == "images" else _ANNOTATION):
                raise DataError(f"proposals {path}, {key}: {fault}: {REMEDY}")
            if key == "images":
                images.append(value)
            else:
                found[value["image_id"]].append(value["bbox"])
    known = {image["id"] for image in images}
    if strangers := found.keys() - known:
        raise DataError(
            f"proposals {path} have boxes of image {min(map(str, strangers))}, which 'images' lacks: {REMEDY}"
        )
    parts = [np.zeros((0, 4))]
    for image in images:
        boxes = np.array(found[image["id"]], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        parts.append(boxes / np.tile([image["width"], image["height"]], 2))
    names = [known_as(image["file_name"]) for image in images]
    return names, np.array([len(part) for part in parts[1:]], np.int64), np.concatenate(parts).astype(np.float32)
