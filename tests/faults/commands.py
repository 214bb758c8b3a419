"""Every command line of the project: one that succeeds, and of what kind each of its arguments is."""

import argparse
import runpy
import sys
from dataclasses import dataclass
from functools import cache
from unittest import mock

from tests.faults.world import REPOSITORY


@dataclass(frozen=True)
class Command:
    """A program with a command line that succeeds.

    Attributes:
        program: path below the repository, or below ``{world}``.
        base: option, or name of a positional → what stands there in the command line that succeeds.
        kinds: the same for every argument there is → its kind (:data:`tests.faults.values.VALUES`).
        positionals: names that stand without an option, at the end.
        raw: folder of ``{world}/raw`` that each case gets a copy of, as ``{case}/root``; empty: none.
        subcommand: what stands before everything else; empty: nothing.
    """

    program: str
    base: dict[str, tuple[str, ...]]
    kinds: dict[str, str]
    positionals: tuple[str, ...] = ("opts",)
    raw: str = ""
    subcommand: str = ""

    def line(self, **changed):
        """The arguments with those in ``changed`` replaced; an option is named as it is parsed (``max_images``)."""
        given = {name: changed.get(name, tokens) for name, tokens in self.base.items()}
        given |= {name: tokens for name, tokens in changed.items() if name not in given}
        options = [
            token
            for name, tokens in given.items()
            if name not in self.positionals
            for token in (f"--{name.replace('_', '-')}", *tokens)
        ]
        first = (self.subcommand,) if self.subcommand else ()
        return (*first, *options, *(token for name in self.positionals for token in given.get(name, ())))

    @property
    def path(self):
        return self.program if self.program.startswith("{") else str(REPOSITORY / self.program)


ENCODER = {"encoder": ("nano",), "weights": ("nano-clip",)}
KINDS = {
    "context": "choice",
    "attention_scale": "choice",
    "encoder": "encoder",
    "weights": "weights",
    "output": "folder",
    "device": "device",
    "opts": "overrides",
    "config_file": "config",
    "workers": "processes",
}


def _training(program, config):
    base = {"config_file": (f"{{world}}/{config}.yaml",), "opts": ("OUTPUT_DIR", "{case}/out")}
    hidden = dict.fromkeys(("num_machines", "machine_rank", "dist_url"), "choice")
    kinds = {"config_file": "config", "resume": "flag", "eval_only": "flag", "num_gpus": "processes"}
    return Command(f"tools/{program}.py", base, {**kinds, **hidden, "opts": "training"})


def _picture(subcommand, base, kinds):
    base, kinds = {**base, "output": ("{case}/out.png",)}, {**kinds, "output": "picture", "dpi": "dots"}
    return Command("tools/visualize.py", base, kinds, subcommand=subcommand)


def _preparation(name):
    base = {"root": ("{case}/root",), "workers": ("1",)}
    return Command(f"datasets/prepare_{name}.py", base, {"root": "data root", "workers": "processes"}, raw=name)


PREPARATIONS = (
    "ade20k_150", "ade20k_847", "cityscapes", "coco_object", "coco_panoptic", "coco_stuff", "pascal_context", "voc",
)  # fmt: skip
EVALUATION = {
    **{name: KINDS[name] for name in ("encoder", "weights", "attention_scale", "device", "output")},
    **dict.fromkeys(("contexts", "prompts", "precision", "methods", "preset"), "choice"),
    **dict.fromkeys(("images_at_once", "windows_at_once"), "positive"),
    **dict.fromkeys(("max_images", "visualize"), "count"),
    **{"num_workers": "workers", "num_gpus": "processes", "cache": "cache"},
    **{"short_side": "length", "window": "length", "stride": "stride", "logit_scale": "scale", "threshold": "share"},
    **{"datasets": "dataset", "regions": "regions", "image_root": "image root", "panoptic_root": "panoptic root"},
    "sides": "sides",
    "save_predictions": "flag",
    "stitch": "flag",
    "proxy_weights": "weights",
}
OUT = {"output": ("{case}/out",)}
QUICK = {"prompts": ("name",), "device": ("cpu",), "num_workers": ("0",), "cache": ("{world}/cache",), **OUT}
DENSE = {"datasets": ("voc_2012_test_sem_seg",), "short_side": ("32",), "window": ("32",), "stride": ("16",)}
REGIONS = {"regions": ("{world}/regions.json",), "image_root": ("{world}/photos",), "sides": ("32",)}
REGIONS |= {"panoptic_root": ("{world}/regions",)}

LOOKED_AT = {"image": ("{world}/photos/2007_000033.jpg",), "device": ("cpu",)}
LOOKING = {"encoder": "encoder", "teacher": "teacher", "patches": "patches", "device": "device"}

COMMANDS = {
    "demo": Command(
        "tools/demo.py",
        {"model": ("nano",), "images": ("{world}/photos",), "classes": ("grass", "sky"), "device": ("cpu",), **OUT},
        {"model": "model", "weights": "weights", "context": "choice", "images": "images", "classes": "classes",
         "output": "folder", "device": "device", "overwrite": "flag", "background": "background", "write": "choice"},
    ),
    "demo of a run": Command(
        "tools/demo.py",
        {"model": ("{world}/runs/catseg",), "images": ("{world}/photos",), "classes": ("grass",), **OUT},
        {"model": "model", "weights": "weights", "context": "choice", "device": "device"},
    ),
    "eval_dense": Command("tools/eval_dense.py", {**ENCODER, **DENSE, **QUICK}, EVALUATION),
    "eval_regions": Command("tools/eval_regions.py", {**ENCODER, **REGIONS, **QUICK}, EVALUATION),
    "eval_class_token": Command(
        "tools/eval_class_token.py",
        {**ENCODER, "captions": ("{world}/captions.json",), "image_root": ("{world}/photos",), "device": ("cpu",),
         "num_workers": ("0",), **OUT},
        {**EVALUATION, "captions": "regions", "classes": "data root"},
    ),
    "export": Command(
        "tools/export.py",
        {**ENCODER, "side": ("32",), "output": ("{case}/out.pt2",)},
        {**{name: KINDS[name] for name in ("encoder", "weights", "context", "attention_scale", "opts")},
         "config_file": "config", "output": "export", "side": "side", "classes": "classes"},
    ),
    "export of a model": Command(
        "tools/export.py",
        {"config_file": ("{world}/catseg.yaml",), "weights": ("{world}/runs/catseg/model_final.pth",),
         "classes": ("grass", "sky"), "output": ("{case}/out.pt2",)},
        {"config_file": "config", "weights": "weights", "classes": "classes", "opts": "overrides"},
    ),
    "convert_checkpoint": Command(
        "tools/convert_checkpoint.py",
        {"input": ("{world}/encoder.pth",), "encoder": ("nano",), "output": ("{case}/out.safetensors",)},
        {"input": "weights", "encoder": "encoder", "config_file": "config", "output": "converted", "context": "choice",
         "to": "choice", "half": "flag", "attention_scale": "choice"},
        ("input",),
    ),
    "convert_checkpoint of a model": Command(
        "tools/convert_checkpoint.py",
        {"input": ("{world}/runs/catseg/model_final.pth",), "config_file": ("{world}/catseg.yaml",),
         "output": ("{case}/out.pth",)},
        {"input": "weights", "config_file": "config", "output": "converted"},
        ("input",),
    ),
    "visualize attention": _picture(
        "attention",
        {**LOOKED_AT, "encoder": ("nano", "nano-clip"), "anchors": ("20,10",), "layers": ("0", "-1")},
        {**LOOKING, "image": "images", "anchors": "places", "layers": "layers"},
    ),
    "visualize proxy-tokens": _picture(
        "proxy-tokens",
        {"images": ("{world}/photos",), "teacher": ("nano-vfm",), "device": ("cpu",)},
        {**LOOKING, "images": "images", "dataset": "dataset", "fraction": "share", "max_images": "count"},
    ),
    "visualize correlation": _picture(
        "correlation",
        {**LOOKED_AT, "encoder": ("nano", "nano-clip", "qk"), "teacher": ("nano-vfm",)},
        {**LOOKING, "image": "images", "anchors": "places"},
    ),
    "visualize segmentation": _picture(
        "segmentation",
        {"images": ("{world}/photos",), "model": ("nano",), "classes": ("grass", "sky"), "device": ("cpu",)},
        {"images": "images", "dataset": "dataset", "model": "model", "classes": "classes", "count": "positive",
         "device": "device"},
    ),
    "visualize dataset": _picture(
        "dataset",
        {"dataset": ("voc_2012_test_sem_seg",), "count": ("1",)},
        {"dataset": "dataset", "count": "positive"},
    ),
    "visualize training": _picture(
        "training",
        {"run": ("a", "{world}/runs/catseg"), "curves": ("total_loss",)},
        {"run": "run", "curves": "choice", "smooth": "positive", "log_scale": "flag"},
    ),
    "visualize resolution": _picture(
        "resolution",
        {"results": ("a", "32={world}/dense")},
        {"results": "results", "metrics": "choice"},
    ),
    "reproduce": Command(
        "{world}/tools/reproduce.py",
        {"table": ("8",), "seeds": ("1",), **OUT},
        {"table": "choice", "scale": "choice", "seeds": "few", "first_seed": "seed", "jobs": "processes",
         "encoder": "choice", "dataset": "choice", "output": "folder", "opts": "overrides"},
    ),
    "list_encoders": Command(
        "tools/list_encoders.py",
        {"names": ("ViT-S-32",), "output": ("{case}/out.md",)},
        {"names": "choice", "output": "page"},
        ("names",),
    ),
    "train_net": _training("train_net", "catseg"),
    "train_declip": _training("train_declip", "distill"),
    "nano/pretrain": _training("nano/pretrain", "pretrain"),
    "nano/affinities": Command(
        "tools/nano/affinities.py",
        {"scenes": ("1",), "teachers": ("pretrained",), "encoders": ("nano-clip",)},
        {"teachers": "teacher", "encoders": "weights", "context": "choice", "scene_seed": "seed",
         "scenes": "positive"},
    ),
    "check_datasets": Command(
        "datasets/check_datasets.py",
        {"workers": ("1",)},
        {"datasets": "benchmark", "quick": "flag", "workers": "processes"},
        ("datasets",),
    ),
    **{f"prepare_{name}": _preparation(name) for name in PREPARATIONS},
}  # fmt: skip
"""By name."""

ENDINGS = {"check_datasets": "have the faults of the table above"}  # of a base that is refused: two images are not VOC


class _ParsedError(Exception):
    def __init__(self, parser):
        self.parser = parser


@cache
def parser_of(path):
    """The parser that a program makes, caught when it is about to parse."""

    def catch(parser, *_, **__):
        raise _ParsedError(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", catch), mock.patch.object(sys, "argv", [path]):
        try:
            runpy.run_path(path, run_name="__main__")
        except _ParsedError as caught:
            return caught.parser
    raise AssertionError(f"{path} parses no arguments")


def arguments_of(command):
    """Name → argparse action of every argument of a program, or of its subcommand."""
    parser = parser_of(command.path.replace("{world}", str(REPOSITORY)))
    if command.subcommand:
        parser = next(each for each in parser._actions if each.dest == "picture").choices[command.subcommand]
    return {action.dest: action for action in parser._actions if action.dest != "help"}
