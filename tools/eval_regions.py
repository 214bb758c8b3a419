#!/usr/bin/env python3
"""Evaluate an encoder by naming labelled regions: boxes, masks, or crops, at several resolutions.

tools/eval_regions.py --encoder EVA02-B-16 --weights declip.safetensors --sides 224 336 448 560 672 784 896 1024 \
    --regions coco/annotations/panoptic_val2017.json
tools/eval_regions.py --encoder nano --weights nano-clip --contexts vanilla qk --regions nano_val --sides 96 128 192

Prints a table (mean accuracy over classes, things and stuff apart) and writes it under --output with a per-class CSV,
a plot over resolutions and, with --save-predictions, a line of JSON for each region with its five best classes.
"""

import argparse
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import ConfigError
from declip.models.contexts import AttentionScale, ContextType
from declip.models.templates import Templates

METHODS = ("boxes", "masks", "crops")  # of declip.evaluation.regions.RegionMethod, which needs torch


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host import setup_logger
    from d2host.engine import Precision, resolve_device
    from declip import build_encoder
    from declip.data.root import dataset_root
    from declip.evaluation.regions import RegionAccuracy, RegionMethod, compare_regions, load_region_set
    from declip.evaluation.regions.report import prediction_file, write_report
    from declip.models.other_contexts import parse_contexts
    from declip.models.zero_shot_classifier import cached_names

    setup_logger(str(args.output), name="declip")
    regions = load_region_set(args.regions, str(args.image_root or ""), dataset_root(), str(args.panoptic_root or ""))
    encoder = build_encoder(args.encoder, args.weights, attention_scale=args.attention_scale)
    if args.weights == "random":
        logging.getLogger("declip").warning("--weights is random: the numbers of such an encoder mean nothing")
    sides = args.sides or [encoder.image_size]
    for side in sides:
        if side % encoder.patch_size:
            raise ConfigError(f"side {side} is no multiple of the {encoder.patch_size}-pixel patches of {args.encoder}")
    device = resolve_device(args.device)
    encoder.to(device).eval()
    contexts = parse_contexts(args.contexts or [encoder.context.value], args.proxy_weights, device)
    text = cached_names(encoder, regions.class_names, Templates(args.prompts), args.cache)
    results: dict[tuple[str, int], RegionAccuracy] = {}

    def compare(contexts: list[ContextType], methods: list[RegionMethod], side: int, write: Callable | None) -> None:
        names = {
            (context, method): "class token, crops"
            if method is RegionMethod.CROPS
            else f"{context.value}, {method.value}"
            for context in contexts
            for method in methods
        }
        with Precision(args.precision).autocast(text.device):
            accuracies = compare_regions(
                encoder,
                regions,
                side,
                contexts=contexts,
                methods=methods,
                max_images=args.max_images,
                text=text,
                images_at_once=args.images_at_once,
                num_workers=args.num_workers,
                progress=True,
                save=write and (lambda kind, image, scores: write((names[kind], side), image, scores)),
            )
        results.update({(names[kind], side): accuracy for kind, accuracy in accuracies.items()})

    methods = [RegionMethod(name) for name in args.methods]
    dense = [method for method in methods if method is not RegionMethod.CROPS]
    predictions = args.output / "predictions.jsonl"
    saving = prediction_file(predictions, regions.class_names) if args.save_predictions else nullcontext()
    with saving as write:
        for side in sides if dense else ():
            compare(contexts, dense, side, write)
        if RegionMethod.CROPS in methods:  # the class token depends neither on the context type nor on the side
            compare(contexts[:1], [RegionMethod.CROPS], encoder.image_size, write)
    table = write_report(results, regions.class_names, args.output)
    logging.getLogger("declip").info("Region classification in percent:\n%s", table)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--encoder", required=True, help="an open_clip model name, or nano")
    add("--weights", required=True, help="a weight file, an open_clip tag, nano-clip, nano-declip, or random")
    kinds = ", ".join([*(kind.value for kind in ContextType), "neighbours", "proxy:<foundation model>"])
    add("--contexts", nargs="+", help=f"how the last block attends: {kinds} (default: as the weights say)")
    add("--proxy-weights", help="of the proxies: random, or a weight file (default: as published)")
    add("--attention-scale", choices=[scale.value for scale in AttentionScale], help="default: as the weights say")
    add("--regions", default="nano_val", help="a COCO panoptic .json, or a nano split (default: %(default)s)")
    add(
        "--image-root", type=arguments.existing_folder, help="folder of the images of a .json (default: as COCO has it)"
    )
    add(
        "--panoptic-root",
        type=arguments.existing_folder,
        help="folder of its panoptic PNGs (default: as COCO has it)",
    )
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    add(
        "--sides",
        nargs="+",
        type=arguments.side,
        help="longer sides of the image, pixels (default: the encoder's native)",
    )
    add("--prompts", default="imagenet", choices=[each.value for each in Templates], help="default: %(default)s")
    add("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="of the image tower")
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--images-at-once", type=arguments.positive, default=8, help="default: %(default)s")
    add("--max-images", type=arguments.count, default=0, help="only the first of the set (0: all)")
    add("--num-workers", type=arguments.workers, default=1, help="processes that load images")
    add(
        "--cache",
        type=arguments.output_folder,
        default=Path("output/class_embeddings"),
        help="folder that keeps class embeddings",
    )
    add("--save-predictions", action="store_true", help="write predictions.jsonl: a line for each region")
    add("--output", type=arguments.output_folder, default=Path("output/eval_regions"), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
