#!/usr/bin/env python3
"""Evaluate an encoder by naming labelled regions: boxes, masks, or crops, at several resolutions.

tools/eval_regions.py --encoder EVA02-B-16 --weights declip.safetensors --sides 224 336 448 560 672 784 896 1024 \
    --regions coco/annotations/panoptic_val2017.json
tools/eval_regions.py --encoder nano --weights nano-clip --contexts vanilla qk --regions nano_val --sides 96 128 192

Prints a table (mean accuracy over classes, things and stuff apart) and writes it under --output with a per-class CSV,
a plot over resolutions and, with --save-predictions, a line of JSON for each region with its five best classes.
"""

import argparse

from d2host.engine import arguments
from d2host.engine.command import run_command
from declip.evaluation.options import add_encoder_options, add_run_options

METHODS = ("boxes", "masks", "crops")  # of declip.evaluation.regions.RegionMethod, which needs torch


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host import comm, setup_logger
    from d2host.engine.precision import choose_precision
    from declip.data.root import dataset_root
    from declip.evaluation.options import load_encoder
    from declip.evaluation.regions import RegionMethod, RegionOptions, evaluate_regions, load_region_set
    from declip.models.templates import Templates

    for name in ("d2host", "declip"):
        setup_logger(str(args.output), distributed_rank=comm.get_rank(), name=name)
    regions = load_region_set(args.regions, str(args.image_root or ""), dataset_root(), str(args.panoptic_root or ""))
    encoder, contexts = load_encoder(args)
    options = RegionOptions(
        templates=Templates(args.prompts),
        precision=choose_precision(args.precision, encoder.pixel_mean.device),
        images_at_once=args.images_at_once,
        max_images=args.max_images,
        save_predictions=args.save_predictions,
        num_workers=args.num_workers,
        cache=args.cache,
    )
    methods, sides = [RegionMethod(name) for name in args.methods], args.sides or [encoder.image_size]
    evaluate_regions(encoder, regions, contexts, methods, sides, args.output, options)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_encoder_options(parser)
    add = parser.add_argument
    add("--regions", default="nano_val", help="a COCO panoptic .json, or a nano split (default: %(default)s)")
    add("--image-root", type=arguments.existing_folder, help="folder of a .json's images (default: as COCO has it)")
    add("--panoptic-root", type=arguments.existing_folder, help="folder of its PNGs (default: as COCO has it)")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    add("--sides", nargs="+", type=arguments.side, help="longer sides of images, pixels (default: the native one)")
    add_run_options(parser, images_at_once=8, output="output/eval_regions")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
