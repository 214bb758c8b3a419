#!/usr/bin/env python3
"""Evaluate an encoder by dense zero-shot segmentation: patch features against class names, without a trained head.

tools/eval_dense.py --encoder EVA02-B-16 --weights declip.safetensors --datasets all
tools/eval_dense.py --encoder ViT-B-16 --weights openai --contexts vanilla maskclip q qk --datasets voc21 ade150
tools/eval_dense.py --encoder EVA02-B-16 --weights declip.safetensors --contexts qk proxy:dinov2_vitb14
tools/eval_dense.py --encoder nano --weights nano-clip --contexts vanilla maskclip q qk --datasets nano_val

Prints a table (mIoU, contexts by datasets) and writes it with per-class results under --output.
"""

import argparse
from dataclasses import replace

from d2host.engine import arguments
from d2host.engine.command import run_command
from declip.evaluation.options import add_encoder_options, add_run_options
from declip.evaluation.zero_shot.protocol import DATASETS, Protocol, known_presets, protocol_of

SETTINGS = ("short_side", "window", "stride", "logit_scale", "threshold", "stitch")


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host import comm, setup_logger
    from d2host.engine.precision import choose_precision
    from declip.evaluation.options import load_encoder
    from declip.evaluation.zero_shot.run import ZeroShotOptions, evaluate_zero_shot
    from declip.models.templates import Templates

    for name in ("d2host", "declip", "catseg"):
        setup_logger(str(args.output), distributed_rank=comm.get_rank(), name=name)
    protocols = choose_protocols(args)
    encoder, contexts = load_encoder(args)
    options = ZeroShotOptions(
        templates=Templates(args.prompts),
        precision=choose_precision(args.precision, encoder.pixel_mean.device),
        windows_at_once=args.windows_at_once,
        images_at_once=args.images_at_once,
        max_images=args.max_images,
        visualize=args.visualize,
        save_predictions=args.save_predictions,
        num_workers=args.num_workers,
        cache=args.cache,
    )
    evaluate_zero_shot(encoder, contexts, protocols, args.output, options)


def choose_protocols(args: argparse.Namespace) -> dict[str, Protocol]:
    """Registered dataset → settings of the preset, with the overrides of the command line.

    Raises:
        DataError, ConfigError: a dataset is unknown, or a setting impossible.
    """
    from declip.data.datasets import class_names

    preset = args.preset or (args.encoder if args.encoder in known_presets() else "declip")
    names = list(DATASETS) if args.datasets == ["all"] else args.datasets
    overrides = {key: getattr(args, key) for key in SETTINGS if getattr(args, key) is not None}
    chosen = {}
    for name in names:
        full_name = DATASETS.get(name, name)
        class_names(full_name)
        chosen[full_name] = replace(protocol_of(preset, name), **overrides)
    return chosen


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_encoder_options(parser)
    add = parser.add_argument
    add("--datasets", nargs="+", default=["all"], help=f"all, or any of {', '.join(DATASETS)}, or registered names")
    add("--preset", choices=known_presets(), help="published settings per dataset (default: declip, or nano)")
    add("--short-side", type=arguments.length, help="of the image, pixels (0: as it is)")
    add("--window", type=arguments.length, help="side of a window, pixels (0: the whole image)")
    add("--stride", type=arguments.side, help="between windows, pixels")
    add("--stitch", action="store_const", const=True, help="windows meet in the last block, which sees the whole image")
    add("--logit-scale", type=arguments.number(0, above=True), help="factor on the cosines")
    add("--threshold", type=arguments.number(0, 1), help="least probability of what is not background")
    windows = {"default": 16, "help": "windows encoded together (default: %(default)s)"}
    add("--windows-at-once", type=arguments.positive, **windows)
    add("--visualize", type=arguments.count, default=0, help="images drawn per dataset, beside their ground truth")
    add_run_options(parser, images_at_once=2, output="output/eval_dense")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
