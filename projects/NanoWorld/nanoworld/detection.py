"""Nano scenes as a detection dataset: things with boxes, a quarter of them novel.

As in OV-COCO, training scenes show novel things too, but no label says so.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from declip.plugins import PluginDataset
from nanoworld.datasets import SPLITS, NanoSplit, load_nano
from nanoworld.vocabulary import CLASSES, THINGS, UNSEEN_CLASSES
from nanoworld.world import class_color

XYWH = 1  # Detectron2's mode of boxes: corner and sides
NOVEL = [THINGS.index(name) for name in UNSEEN_CLASSES]
TRAINING = "nano_det_train"
SCENES = {
    TRAINING: NanoSplit("det_train", seed=6, size=2000, classes=CLASSES),
    "nano_det_val": SPLITS["nano_val_unseen"],
    "nano_det_final": SPLITS["nano_final"],  # for finished work: nothing is chosen by it
}


def load_objects(name: str, root: Path) -> list[dict]:
    """Dataset dicts of one of :data:`SCENES`; those to train on without objects of novel classes."""
    hidden = NOVEL if name == TRAINING else ()
    records = []
    for scene in load_nano(SCENES[name], root):
        objects = [
            {"bbox": each["bbox"], "bbox_mode": XYWH, "category_id": label, "area": each["area"], "iscrowd": 0}
            for each in scene["segments_info"]
            if each["isthing"] and (label := THINGS.index(CLASSES[each["category_id"]])) not in hidden
        ]
        kept = {key: scene[key] for key in ("file_name", "height", "width", "image_id")}
        records.append({**kept, "annotations": objects})
    return records


def facts() -> Mapping[str, Any]:
    """What is known of the dataset's classes."""
    base = [label for label in range(len(THINGS)) if label not in NOVEL]
    return {
        "thing_classes": list(THINGS),
        "thing_colors": [class_color(name) for name in THINGS],
        "class_groups": {"novel": NOVEL, "base": base},
        "novel_classes": NOVEL,
        "evaluator_type": "coco",
    }


DETECTION_DATASETS = {name: PluginDataset(partial(load_objects, name), facts) for name in SCENES}
