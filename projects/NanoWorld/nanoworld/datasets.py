"""Nano scenes on disk: ordinary image and label files, written once on first use.

Layout under ``<root>/nano/<split>/``: ``images/*.png`` (RGB), ``labels/*.png`` (class indices into ``classes``, 255
elsewhere), ``panoptic/*.png`` (segment id in the red channel, as COCO panoptic ids below 256) and ``scenes.json``
(classes, and per scene: size, caption, segments).
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from d2host.engine.errors import DataError
from nanoworld.captions import caption_scene
from nanoworld.vocabulary import CLASSES, SEEN_CLASSES, STUFF, THINGS
from nanoworld.world import Scene, render_scene

RECIPE = 2  # changes whenever the world does, so that old files are not taken for new ones
IGNORE_LABEL = 255


@dataclass(frozen=True)
class NanoSplit:
    """A series of scenes.

    Attributes:
        name: of the split.
        seed: of the series; every split has its own.
        size: scenes.
        classes: vocabulary, in label order; things that occur are those it names.
    """

    name: str
    seed: int
    size: int
    classes: tuple[str, ...]

    @property
    def things(self) -> tuple[str, ...]:
        """The things that occur."""
        return tuple(name for name in self.classes if name not in STUFF)


SPLITS = {
    "nano_train": NanoSplit("train", seed=1, size=4000, classes=SEEN_CLASSES),
    "nano_val": NanoSplit("val", seed=2, size=200, classes=SEEN_CLASSES),
    "nano_val_unseen": NanoSplit("val_unseen", seed=3, size=200, classes=CLASSES),
    "nano_test": NanoSplit("test", seed=4, size=300, classes=CLASSES),
    # for finished work, nothing is chosen by these; the second where the first has been seen
    "nano_final": NanoSplit("final", seed=505, size=300, classes=CLASSES),
    "nano_final_2": NanoSplit("final_2", seed=606, size=300, classes=CLASSES),
}


def load_nano(split: NanoSplit, root: str | Path) -> list[dict]:
    """Dataset dicts of a split under ``root``, writing its files first where they are missing or outdated.

    Each dict has ``file_name``, ``sem_seg_file_name``, ``panoptic_file_name``, ``height``, ``width``, ``image_id``,
    ``caption`` and ``segments_info``.

    Raises:
        DataError: the files cannot be written.
    """
    folder = Path(root) / "nano" / split.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{split.name}.lock"):
            if not _is_current(folder, split):
                _write_split(folder, split)
    except OSError as error:
        raise DataError(
            f"nano scenes cannot be written to {folder} ({error}): set DETECTRON2_DATASETS elsewhere"
        ) from error
    scenes = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))["scenes"]
    return [
        {
            **scene,
            "file_name": str(folder / "images" / f"{scene['image_id']}.png"),
            "sem_seg_file_name": str(folder / "labels" / f"{scene['image_id']}.png"),
            "panoptic_file_name": str(folder / "panoptic" / f"{scene['image_id']}.png"),
        }
        for scene in scenes
    ]


def _stamp(split: NanoSplit) -> dict:
    return {"recipe": RECIPE, **asdict(split), "classes": list(split.classes)}


def _is_current(folder: Path, split: NanoSplit) -> bool:
    """Whether the files are there, and of this split and recipe; a damaged index is of none."""
    try:
        index = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
        return index["split"] == _stamp(split) and isinstance(index["scenes"], list)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_split(folder: Path, split: NanoSplit) -> None:
    """Write everything beside ``folder``, then move it into place."""
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    for kind in ("images", "labels", "panoptic"):
        (temporary / kind).mkdir(parents=True)
    scenes = [
        _write_scene(temporary, split, index)
        for index in tqdm(range(split.size), desc=f"drawing nano scenes ({split.name})", unit="scene")
    ]
    index = {"split": _stamp(split), "scenes": scenes}
    (temporary / "scenes.json").write_text(json.dumps(index), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _write_scene(folder: Path, split: NanoSplit, index: int) -> dict:
    scene = render_scene(split.seed, index, split.things or THINGS)
    name = f"{index:06d}"
    save: Callable[[str, np.ndarray], None] = lambda kind, array: Image.fromarray(array).save(  # noqa: E731
        folder / kind / f"{name}.png", compress_level=1
    )
    save("images", scene.image)
    save("labels", scene.class_map(split.classes, IGNORE_LABEL))
    save(
        "panoptic",
        np.dstack([scene.segment_ids + 1, np.zeros_like(scene.segment_ids), np.zeros_like(scene.segment_ids)]),
    )
    height, width = scene.segment_ids.shape
    return {
        "image_id": name,
        "height": height,
        "width": width,
        "caption": caption_scene(scene, split.seed, index),
        "segments_info": _segments_info(scene),
    }


def _segments_info(scene: Scene) -> list[dict]:
    """COCO-panoptic style facts; category ids index all classes of the nano world."""
    return [
        {
            "id": number,
            "category_id": CLASSES.index(segment.name),
            "isthing": int(segment.is_thing),
            "bbox": [segment.box[0], segment.box[1], segment.box[2] - segment.box[0], segment.box[3] - segment.box[1]],
            "area": segment.area,
        }
        for number, segment in enumerate(scene.segments, start=1)
    ]
