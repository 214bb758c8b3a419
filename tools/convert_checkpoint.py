#!/usr/bin/env python3
"""Bring published weights into this project's files.

tools/convert_checkpoint.py DeCLIP_EVA-B.pt --encoder EVA02-B-16 --attention-scale none -o declip.safetensors
tools/convert_checkpoint.py ViT-B-16.pt --encoder ViT-B-16-quickgelu --context maskclip -o openai.safetensors
tools/convert_checkpoint.py cat_seg_base.pth --config-file catseg_clip_vitb.yaml -o catseg_base.pth

The layout is recognised from the keys: open_clip, timm, OpenAI (TorchScript), EVA-CLIP, CLIPSelf, DeCLIP, CAT-Seg. Such
files may also be given as they are (--weights, MODEL.ENCODER.WEIGHTS, MODEL.WEIGHTS); a converted one also remembers
model, context type and scale.
"""

import argparse
import logging

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import CheckpointError, ConfigError
from declip.contexts import AttentionScale, ContextType


def main(args: argparse.Namespace) -> None:
    """Convert one file."""
    from d2host import setup_logger

    for name in ("declip", "catseg"):
        setup_logger(name=name)
    if args.output.resolve() == args.input.resolve():
        raise CheckpointError(f"{args.output} is the input: conversion never overwrites it, give another output")
    if bool(args.encoder) == bool(args.config_file):
        raise ConfigError("give either --encoder (weights of a CLIP) or --config-file (a whole CAT-Seg model)")
    if args.config_file and (args.context or args.attention_scale or args.half):
        raise ConfigError(
            "--context, --attention-scale and --half are for an encoder: leave them out for a whole model"
        )
    if args.encoder and args.to != "project":
        raise ConfigError("--to is for a whole model: leave it out for an encoder")
    ending = ".safetensors" if args.encoder else ".pth"
    if args.output.suffix != ending:
        raise ConfigError(f"{args.output} has to end in {ending}, which is what is written")
    if args.encoder:
        convert_encoder(args)
    else:
        convert_model(args)
    logging.getLogger("declip").info("Wrote %s", args.output)


def convert_model(args: argparse.Namespace) -> None:
    """Write a whole model as this project names its parts, or as public CAT-Seg does."""
    import torch

    import catseg.modeling  # noqa: F401 (registers the meta-architecture)
    from catseg.checkpoint import load_model_weights, to_public
    from catseg.config import get_catseg_cfg
    from d2host import build_model
    from d2host.engine.checkpoint import write_atomically

    cfg = get_catseg_cfg(args.config_file, ["MODEL.ENCODER.WEIGHTS", "random", "MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    load_model_weights(args.input, model)
    state = to_public(model.state_dict()) if args.to == "public" else model.state_dict()
    write_atomically(args.output, lambda file: torch.save({"model": state}, file))


def convert_encoder(args: argparse.Namespace) -> None:
    """Write an encoder's weights with what is known about them; facts in the input are kept."""
    from declip import build_encoder
    from declip.models.weights import load_encoder_weights, save_encoder
    from declip.weights.files import half_precision, read_metadata

    facts = read_metadata(args.input)
    given = {"context": args.context, "attention_scale": args.attention_scale}
    encoder = build_encoder(args.encoder, "random", **{key: value or facts.get(key) for key, value in given.items()})
    translation = load_encoder_weights(encoder, args.input)
    more = {key: value for key, value in facts.items() if key not in ("format", "model", *given, "image_size")}
    state = encoder.clip.state_dict()
    save_encoder(
        encoder,
        args.output,
        half_precision(state) if args.half else state,
        **{"converted_from": args.input.name, "layout": translation.layout, **more},
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", type=arguments.existing_file, help="the published file")
    add(
        "-o",
        "--output",
        type=arguments.output_file(".safetensors", ".pth"),
        required=True,
        help=".safetensors for an encoder, .pth for a whole model",
    )
    add("--encoder", help="open_clip name of the CLIP whose weights these are")
    add("--config-file", help="config of the CAT-Seg model whose weights these are")
    add(
        "--context",
        choices=[kind.value for kind in ContextType],
        help="to remember with an encoder (default: as before, or qk)",
    )
    add("--to", choices=["project", "public"], default="project", help="whose names a whole model gets")
    add("--half", action="store_true", help="store an encoder in half precision")
    scales = [scale.value for scale in AttentionScale]
    add("--attention-scale", choices=scales, help="to remember with an encoder: none for the authors' DeCLIP releases")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
