"""What the nano world adds to DeCLIP: encoders, teachers, their weights, datasets, and how they are evaluated."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from declip.plugins import Plugin, PluginDataset, PluginEncoder, PluginExample
from nanoworld.datasets import IGNORE_LABEL, SPLITS, NanoSplit, load_nano
from nanoworld.detection import DETECTION_DATASETS
from nanoworld.vocabulary import CLASSES, STUFF, UNSEEN_CLASSES
from nanoworld.weights import FOLDER, SHIPPED, shipped_weights
from nanoworld.world import class_color

NANO, NANO_12, NANO_VFM, NANO_DIFFUSION = "nano", "nano-clip-12", "nano-vfm", "nano-diffusion"
EXAMPLES, EXAMPLE_SIDE = 77, 128  # series and side of scenes to try models on
PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's


def _create_encoder():
    from nanoworld.model import create_nano_clip

    return create_nano_clip()


def _create_encoder_12():
    from nanoworld.model import create_nano_clip

    return create_nano_clip(layers=12, mlp_ratio=2.0)


def _create_tokenizer():
    from nanoworld.model import nano_tokenizer

    return nano_tokenizer()


def _create_teacher(weights: str):
    from nanoworld.vfm import create_nano_vfm

    return create_nano_vfm({"pretrained": NANO_VFM, "random": ""}.get(weights, weights))


def _presets() -> dict:
    from declip.evaluation.zero_shot.protocol import Protocol

    return {"": Protocol(short_side=0, window=0)}


def _load(split: NanoSplit, root: Path) -> list[dict]:
    return load_nano(split, root)


def _metadata(split: NanoSplit) -> dict:
    return {
        "stuff_classes": list(split.classes),
        "stuff_colors": [class_color(name) for name in split.classes],
        "ignore_label": IGNORE_LABEL,
        "evaluator_type": "sem_seg",
        "class_groups": seen_and_unseen(split),
        "is_thing": [name in split.things for name in split.classes],
        "categories": [
            {"id": index, "name": name, "isthing": int(name not in STUFF)} for index, name in enumerate(CLASSES)
        ],
    }


def _examples() -> list[PluginExample]:
    """Scenes of no dataset's series, each with what it shows and two things that it does not."""
    from nanoworld.world import render_scene

    scenes = [render_scene(EXAMPLES, index, size=EXAMPLE_SIDE) for index in (0, 2, 3)]
    shown = [list(dict.fromkeys(segment.name for segment in scene.segments)) for scene in scenes]
    absent = [[name for name in CLASSES if name not in names][::29] for names in shown]
    return [
        PluginExample(scene.image, names + others) for scene, names, others in zip(scenes, shown, absent, strict=True)
    ]


def seen_and_unseen(split: NanoSplit) -> Mapping[str, list[int]]:
    """Class ids of a split by whether training labels name them; empty where all are seen."""
    unseen = [index for index, name in enumerate(split.classes) if name in UNSEEN_CLASSES]
    seen = [index for index in range(len(split.classes)) if index not in unseen]
    return {"seen": seen, "unseen": unseen} if unseen else {}


PLUGIN = Plugin(
    encoders={
        NANO: PluginEncoder(_create_encoder, _create_tokenizer, PIXEL_MEAN, PIXEL_STD, "nano-declip"),
        NANO_12: PluginEncoder(_create_encoder_12, _create_tokenizer, PIXEL_MEAN, PIXEL_STD),
    },
    weights={name: shipped_weights(name) for name in SHIPPED if name != NANO_VFM},
    teachers={NANO_VFM: _create_teacher},
    diffusions={NANO_DIFFUSION: FOLDER / NANO_DIFFUSION},
    datasets={
        **{name: PluginDataset(partial(_load, split), partial(_metadata, split)) for name, split in SPLITS.items()},
        **DETECTION_DATASETS,
    },
    presets={NANO: _presets, NANO_12: _presets},
    examples={NANO: _examples},
)
