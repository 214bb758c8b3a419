"""All cases: command lines with one thing wrong, and files with one thing wrong that a command line reads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults.commands import COMMANDS, arguments_of
from tests.faults.contents import CLASS_LISTS, CONFIGS, IMAGES, JSONS, WEIGHTS
from tests.faults.keys import key_values
from tests.faults.mutations import spoil, variants
from tests.faults.values import VALUES, Expected
from tests.faults.world import CAPTIONS, PHOTOS, REGIONS

SPOILT_PER_FILE = 64
VOC_LABELS = "data/VOCdevkit/VOC2012/annotations_detectron2/val"


@dataclass(frozen=True)
class Case:
    """A command line, and what should come of it.

    Attributes:
        command: name in :data:`tests.faults.commands.COMMANDS`.
        label: what is wrong.
        arguments: with ``{world}`` and ``{case}`` for the folders.
        expected: see :class:`Expected`.
        copies: path below the world → below the case's folder, what the case gets of its own.
        files: path below the case's folder, or a pattern of one that is copied there → a function from the world's
            folder to the bytes that are put there.
    """

    command: str
    label: str
    arguments: tuple[str, ...]
    expected: Expected = Expected.REFUSED
    copies: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], bytes]] = field(default_factory=dict)

    @property
    def name(self):
        """Distinct among all cases."""
        return f"{self.command}: {self.label}".encode("unicode_escape").decode()


def case(command, label, expected=Expected.REFUSED, copies=None, files=None, **changed):
    """A case of a command with some arguments changed."""
    program = COMMANDS[command]
    raw = {f"raw/{program.raw}": "root"} if program.raw else {}
    return Case(command, label, program.line(**changed), expected, {**raw, **(copies or {})}, files or {})


def bases():
    """The command lines that succeed."""
    return [case(name, "valid", Expected.FINE) for name in COMMANDS]


def argument_cases():
    """Each argument of each command with each bad value of its kind."""
    found = []
    for name, command in COMMANDS.items():
        for argument in arguments_of(command):
            for value in VALUES[command.kinds[argument]] if argument in command.kinds else ():
                if value.tokens == command.base.get(argument):
                    continue
                before = command.base.get("opts", ()) if argument == "opts" else ()
                tokens = (*before, *value.tokens)
                found.append(case(name, f"{argument} {value.label}", value.expected, **{argument: tokens}))
    return found


BRIEF = (
    *("SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0", "SOLVER.IMS_PER_BATCH", "2", "TEST.MAX_IMAGES", "1"),
    *("DATALOADER.NUM_WORKERS", "0", "MODEL.PRETRAINING.PHOTO_SIZE", "16"),
)
PAIRS = (  # command → arguments that contradict each other
    ("eval_dense", {"window": ("32",), "stride": ("48",)}),
    ("eval_dense", {"preset": ("nano",), "datasets": ("all", "voc_2012_test_sem_seg")}),
    ("eval_regions", {"regions": ("nano_val",)}),
    ("eval_regions", {"methods": ("masks",), "panoptic_root": ("{world}/photos",)}),
    ("export", {"config_file": ("{world}/catseg.yaml",)}),
    ("export", {"classes": ("grass", "sky")}),
    ("export", {"opts": ("SEED", "1")}),
    ("export", {"output": ("{case}/folder",), "side": ("64",)}),
    ("export of a model", {"side": ("64",)}),
    ("export of a model", {"context": ("qk",)}),
    ("export of a model", {"output": ("{case}/folder",)}),
    ("convert_checkpoint", {"config_file": ("{world}/catseg.yaml",)}),
    ("convert_checkpoint", {"to": ("public",)}),
    ("convert_checkpoint", {"output": ("{world}/encoder.pth",)}),
    ("convert_checkpoint", {"output": ("{case}/out.pth",)}),
    ("convert_checkpoint of a model", {"half": ()}),
    ("convert_checkpoint of a model", {"context": ("qk",)}),
    ("convert_checkpoint of a model", {"output": ("{case}/out.safetensors",)}),
    ("demo", {"output": ("{world}/photos",)}),
    ("train_net", {"eval_only": ()}),
    ("train_net", {"eval_only": (), "resume": ()}),
    ("train_declip", {"eval_only": ()}),
    ("nano/pretrain", {"eval_only": ()}),
    *((name, {"opts": ("OUTPUT_DIR", "{case}/out", "SOLVER.WARMUP_ITERS", "1")})
      for name in ("train_net", "train_declip", "nano/pretrain")),
)  # fmt: skip


def pair_cases():
    """Arguments that are right by themselves, and contradict each other."""
    return [case(name, f"pair {' '.join(f'{k}={v}' for k, v in pair.items())}", **pair) for name, pair in PAIRS]


def key_cases():
    """Each key of each training with values of other kinds and ranges."""
    return [
        case(name, f"{key} {text}", expected, opts=("OUTPUT_DIR", "{case}/out", key, text))
        for name in ("train_net", "train_declip", "nano/pretrain")
        for key, text, expected in key_values(name)
    ]


def content_cases():
    """Files of another content than a command line asks for."""
    found = []
    for label, (content, expected) in CONFIGS.items():
        for name in ("train_net", "train_declip", "nano/pretrain", "convert_checkpoint of a model"):
            files = {"config.yaml": lambda _, content=content: content}
            changed = {"config_file": ("{case}/config.yaml",)}
            if name == "nano/pretrain":  # whose defaults are a training of minutes
                changed["opts"] = ("OUTPUT_DIR", "{case}/out", *BRIEF)
            found.append(case(name, f"config: {label}", expected, files=files, **changed))
    for label, (content, expected) in CLASS_LISTS.items():
        files = {"names.txt": lambda _, content=content: content}
        found.append(case("demo", f"class list: {label}", expected, files=files, classes=("{case}/names.txt",)))
    for label, (make, expected) in IMAGES.items():
        files = {"one/image" + label.split()[0]: make}
        found.append(case("demo", f"image: {label}", expected, files=files, images=("{case}/one",)))
    for label, (make, expected) in WEIGHTS.items():
        files = {"weights" + label.split()[0]: make}
        given = ("{case}/weights" + label.split()[0],)
        found.append(case("eval_dense", f"weights: {label}", expected, files=files, weights=given))
    for label, content in JSONS.items():
        files = {"file.json": lambda _, content=content: content}
        found.append(case("eval_regions", f"regions: {label}", files=files, regions=("{case}/file.json",)))
        opts = ("OUTPUT_DIR", "{case}/out", "DATASETS.IMAGES", "{case}/file.json")
        found.append(case("train_declip", f"images: {label}", files=files, opts=opts))
        panoptic = {"root/coco/annotations/panoptic_val2017.json": files["file.json"]}
        found.append(case("prepare_coco_panoptic", f"annotations: {label}", files=panoptic))
    return found


def structure_cases():
    """JSON files with one part of another shape."""
    found = []
    for label, content in variants(CAPTIONS):
        files = {"file.json": lambda _, content=content: json.dumps(content).encode()}
        captions = ("{case}/file.json",)
        found.append(case("eval_class_token", f"captions {label}", Expected.EITHER, files=files, captions=captions))
    for label, content in variants(REGIONS):
        files = {"file.json": lambda _, content=content: json.dumps(content).encode()}
        regions = ("{case}/file.json",)
        found.append(case("eval_regions", f"regions {label}", Expected.EITHER, files=files, regions=regions))
        panoptic = {"root/coco/annotations/panoptic_val2017.json": files["file.json"]}
        found.append(case("prepare_coco_panoptic", f"annotations {label}", Expected.EITHER, files=panoptic))
    for label, content in variants(PHOTOS):
        files = {"file.json": lambda _, content=content: json.dumps(content).encode()}
        opts = ("OUTPUT_DIR", "{case}/out", "DATASETS.IMAGES", "{case}/file.json", "DATASETS.IMAGE_ROOT", "{world}")
        found.append(case("train_declip", f"images {label}", Expected.EITHER, files=files, opts=opts))
    return found


TRAINED = ("OUTPUT_DIR", "{case}/runs/catseg")
RESUMED = (*TRAINED, "SOLVER.MAX_ITER", "2")
CONTEXT = "root/VOCdevkit/VOC2010"
READ = {  # file below the world → what is copied to the case's folder, and the command line that reads it there
    "photos/2007_000033.jpg": ("photos", "demo", {"images": ("{case}/photos",)}),
    "photos/2007_000042.png": ("photos", "demo", {"images": ("{case}/photos",)}),
    f"{VOC_LABELS}/2007_000033.png": ("data", "visualize dataset", {"count": ("2",)}),
    "data/VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg": ("data", "eval_dense", {}),
    "regions/1.png": ("regions", "eval_regions", {"panoptic_root": ("{case}/regions",)}),
    "regions.json": ("regions.json", "eval_regions", {"regions": ("{case}/regions.json",)}),
    "classes.txt": ("classes.txt", "demo", {"classes": ("{case}/classes.txt",)}),
    **{
        name: (name, "train_declip",
               {"opts": ("OUTPUT_DIR", "{case}/out", "DATASETS.IMAGES", f"{{case}}/{name}", *more)})
        for name, more in (("photos.txt", ("DATASETS.IMAGE_ROOT", "{world}")), ("photos.tar", ()),
                           ("photos.json", ("DATASETS.IMAGE_ROOT", "{world}")))
    },
    "catseg.yaml": ("catseg.yaml", "train_net", {"config_file": ("{case}/catseg.yaml",)}),
    "distill.yaml": ("distill.yaml", "train_declip", {"config_file": ("{case}/distill.yaml",)}),
    "encoder.safetensors": ("encoder.safetensors", "eval_dense", {"weights": ("{case}/encoder.safetensors",)}),
    "encoder.pth": ("encoder.pth", "convert_checkpoint", {"input": ("{case}/encoder.pth",)}),
    "encoder.pt": ("encoder.pt", "convert_checkpoint", {"input": ("{case}/encoder.pt",)}),
    "vfm.safetensors": ("vfm.safetensors", "nano/affinities", {"teachers": ("{case}/vfm.safetensors",)}),
    "runs/catseg/config.yaml": ("runs/catseg", "demo of a run", {"model": ("{case}/runs/catseg",)}),
    "runs/catseg/model_final.pth": ("runs/catseg", "train_net", {"resume": (), "opts": RESUMED}),
    "runs/catseg/last_checkpoint": ("runs/catseg", "train_net", {"resume": (), "opts": RESUMED}),
    "runs/catseg/metrics.json": ("runs/catseg", "train_net", {"resume": (), "opts": RESUMED}),
    "embeddings/*.safetensors": ("embeddings", "eval_dense", {"cache": ("{case}/embeddings",)}),
    "runs/distill/metrics.json": ("runs/distill", "visualize training", {"run": ("a", "{case}/runs/distill")}),
    "dense/results.json": ("dense", "visualize resolution", {"results": ("a", "32={case}/dense")}),
    "reproduced/runs/*/*/dense/done.json": ("reproduced", "reproduce", {"output": ("reproduced",)}),
    "reproduced/runs/*/*/dense/results.json": ("reproduced", "reproduce", {"output": ("reproduced",)}),
    "data/nano/val/scenes.json": ("data", "visualize dataset", {"dataset": ("nano_val",)}),
    "raw/ade20k_150/ADEChallengeData2016.zip": ("", "prepare_ade20k_150", {}),
    "raw/ade20k_847/ADE20K_2021_17_01/index_ade20k.pkl": ("", "prepare_ade20k_847", {}),
    "raw/ade20k_847/ADE20K_2021_17_01/images/ADE/validation/street/1_seg.png": ("", "prepare_ade20k_847", {}),
    "raw/cityscapes/cityscapes/gtFine/val/ulm/ulm_gtFine_labelIds.png": ("", "prepare_cityscapes", {}),
    "raw/coco_panoptic/coco/annotations/panoptic_val2017.json": ("", "prepare_coco_panoptic", {}),
    "raw/coco_panoptic/coco/annotations/panoptic_val2017/1.png": ("", "prepare_coco_panoptic", {}),
    "raw/coco_stuff/coco/stuffthingmaps/val2017/1.png": ("", "prepare_coco_stuff", {}),
    "raw/pascal_context/VOCdevkit/VOC2010/trainval/1.mat": ("", "prepare_pascal_context", {}),
    "raw/pascal_context/VOCdevkit/VOC2010/labels.txt": ("", "prepare_pascal_context", {}),
    "raw/voc/VOCdevkit/VOC2012/SegmentationClass/1.png": ("", "prepare_voc", {}),
    "raw/voc/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": ("", "prepare_voc", {}),
}  # fmt: skip


def _spoilt(world, file, seed):
    return spoil(min(world.glob(file)).read_bytes(), seed)


def mutation_cases(per_file=SPOILT_PER_FILE):
    """Every kind of file that is read, its bytes spoilt."""
    found = []
    for number, (file, (copied, name, changed)) in enumerate(READ.items()):
        raw = COMMANDS[name].raw
        own = f"root/{file.removeprefix(f'raw/{raw}/')}" if raw else file
        for index in range(per_file):
            damage = partial(_spoilt, file=file, seed=number * 1000 + index)
            home = "cwd/" if copied == "reproduced" else ""  # where the output of a case is relative
            copies = {copied: home + copied} if copied else {}
            label = f"{file} spoilt {index}"
            found.append(case(name, label, Expected.EITHER, copies, {home + own: damage}, **changed))
    return found


def all_cases():
    """Every case by name."""
    found = [
        *bases(),
        *argument_cases(),
        *pair_cases(),
        *key_cases(),
        *content_cases(),
        *structure_cases(),
        *mutation_cases(),
    ]
    return {each.name: each for each in found}
