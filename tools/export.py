#!/usr/bin/env python3
"""Write encoders and models for other programs.

tools/export.py --encoder EVA02-B-16 --weights declip.safetensors --output declip_hub        # for open_clip and the hub
tools/export.py --encoder EVA02-B-16 --weights declip.safetensors --side 560 --output dense.onnx
tools/export.py --config-file declip_catseg_vitb.yaml --weights model_final.pth --classes road car sky --output seg.pt2

A .pt2 (torch.export) or .onnx program takes images in 0..255 of a fixed side, any number of them for an encoder, and
is compared with the model before it is written. Any other output is a folder that open_clip loads with
create_model("local-dir:<folder>"). Nothing is uploaded.
"""

import argparse
import logging
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import ConfigError
from declip.contexts import AttentionScale, ContextType

PROGRAMS = (".pt2", ".onnx")


def main(args: argparse.Namespace) -> None:
    """Export one encoder or one model."""
    from d2host import setup_logger
    from declip import build_encoder
    from declip.export import DenseProgram, export_open_clip, export_program

    setup_logger(name="declip")
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    if bool(args.encoder) == bool(args.config_file):
        raise ConfigError("give either --encoder or, for a whole CAT-Seg model, --config-file")
    refuse_idle_options(args)
    if args.config_file:
        report = export_segmentation(args)
    else:
        encoder = build_encoder(args.encoder, args.weights, args.context, args.attention_scale).eval()
        if args.output.suffix in PROGRAMS:
            side = args.side or encoder.image_size
            difference = export_program(DenseProgram(encoder), side, args.output)
            report = f"dense features of {side}-pixel images, within {difference:.1e} of the model"
        else:
            export_open_clip(encoder, args.output)
            report = "a folder for open_clip, which runs the last block as CLIP has it (see its README.md)"
    logging.getLogger("declip").info("Wrote %s: %s", args.output, report)


def export_segmentation(args: argparse.Namespace) -> str:
    """Export a CAT-Seg model with the vocabulary of ``--classes``."""
    import catseg.modeling  # noqa: F401 (registers the meta-architecture)
    from catseg.checkpoint import load_model_weights
    from catseg.config import get_catseg_cfg
    from catseg.export import SegmentationProgram
    from d2host import build_model
    from declip.data.class_lists import classes_of
    from declip.export import export_program

    if args.output.suffix not in PROGRAMS or not args.classes:
        raise ConfigError("a CAT-Seg model is exported to .pt2 or .onnx, with the --classes that it shall segment")
    classes = classes_of(args.classes)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", args.weights, *args.opts]
    model = build_model(get_catseg_cfg(args.config_file, opts)).eval()
    load_model_weights(args.weights, model)
    program = SegmentationProgram(model, classes)
    difference = export_program(program, model.side, args.output, dynamic_batch=False)
    return f"logits of {len(classes)} classes for one {model.side}-pixel image, within {difference:.1e} of the model"


def refuse_idle_options(args: argparse.Namespace) -> None:
    """Refuse options that what is exported does not read.

    Raises:
        ConfigError: naming them.
    """
    of_model, of_encoder = ("classes", "opts"), ("context", "attention_scale", "side")
    idle = of_encoder if args.config_file else of_model
    if args.encoder and args.output.suffix not in PROGRAMS:
        idle = (*idle, "side")
    given = [f"--{name.replace('_', '-')}" for name in idle if getattr(args, name)]
    if given:
        names = ", ".join(given).replace("--opts", "KEY VALUE overrides")
        raise ConfigError(f"{names} would change nothing about this export: leave them out")


def output(text: str) -> Path:
    """The kind of ``--output``: a program's file by its ending, else a folder."""
    suffixed = Path(text).suffix in PROGRAMS
    return arguments.output_file(*PROGRAMS)(text) if suffixed else arguments.output_folder(text)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--encoder", help="an open_clip model name, or nano")
    add("--config-file", help="config of a CAT-Seg model")
    add("--weights", default="", help="of the encoder or the model")
    add("--output", type=output, required=True, help="a .pt2 or .onnx file, or a folder")
    add("--context", choices=[kind.value for kind in ContextType], help="default: as the weights say")
    add("--attention-scale", choices=[scale.value for scale in AttentionScale], help="default: as the weights say")
    add(
        "--side",
        type=arguments.length,
        default=0,
        help="of an encoder program's images, pixels (default: the native side)",
    )
    add("--classes", nargs="+", default=[], help="names, or a class list (.txt), for a CAT-Seg model")
    add("opts", nargs="*", help="KEY VALUE overrides of the config")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
