#!/usr/bin/env python3
"""Evaluate what encoders' class tokens know of whole images: zero-shot classification and image-text retrieval.

tools/eval_class_token.py --encoder EVA02-B-16 --weights merged2b_s8b_b131k declip.safetensors \\
    --captions coco/annotations/captions_val2017.json --image-root coco/val2017 --classes imagenet/val
tools/eval_class_token.py --encoder nano --weights nano-clip nano-declip --captions nano_val

The weights, first the original's, then those distilled from it, are a row each: is the class token still CLIP's?
Captions are a COCO .json, a folder in which street.jpg has street.txt beside it, or a nano split; classes a folder with
a folder of images for each. The table is written under --output, too.
"""

import argparse
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import ConfigError
from d2host.engine.precision import AUTO, Precision
from declip.models.templates import Templates


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    import logging

    from d2host import setup_logger
    from d2host.engine.precision import choose_precision
    from d2host.engine.setup import resolve_device
    from declip import build_encoder
    from declip.data.root import dataset_root
    from declip.data.whole_images import load_captions, load_classes
    from declip.evaluation.class_token import ClassTokenSets, evaluate_class_token
    from declip.evaluation.results import write_results

    if not args.captions and not args.classes:
        raise ConfigError("there is nothing to evaluate on: give --captions, --classes, or both")
    for name in ("d2host", "declip"):
        setup_logger(str(args.output), name=name)
    sets = ClassTokenSets(
        load_captions(args.captions, str(args.image_root or ""), dataset_root()) if args.captions else None,
        load_classes(str(args.classes)) if args.classes else None,
    )
    device, results = resolve_device(args.device), {}
    precision = choose_precision(args.precision, device)
    for weights in dict.fromkeys(args.weights):
        if weights == "random":
            logging.getLogger("declip").warning("--weights is random: the numbers of such an encoder mean nothing")
        encoder = build_encoder(args.encoder, weights).to(device).eval()
        with precision.autocast(device):
            results[weights] = evaluate_class_token(
                encoder,
                sets,
                max_images=args.max_images,
                templates=Templates(args.prompts),
                images_at_once=args.images_at_once,
                num_workers=args.num_workers,
            )
    columns = list(next(iter(results.values())))
    rows = [[weights, *(found[column] for column in columns)] for weights, found in results.items()]
    listed = [{"weights": weights, **found} for weights, found in results.items()]
    table = write_results(args.output, ["weights", *columns], rows, listed)
    logging.getLogger("declip").info("Class tokens of whole images, in percent:\n%s", table)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--encoder", required=True, help="an open_clip model name, or nano")
    add("--weights", required=True, nargs="+", help="weight files, open_clip tags, nano-clip, ...: a row each")
    add("--captions", default="", help="images with captions: a COCO captions .json, a folder, or a nano split")
    add("--image-root", type=arguments.existing_folder, help="folder of a .json's images (default: that of the .json)")
    add("--classes", type=arguments.existing_folder, help="a folder with a folder of images for each class")
    add("--prompts", default="imagenet", choices=[each.value for each in Templates], help="default: %(default)s")
    add("--precision", default="fp32", choices=[AUTO, *(each.value for each in Precision)], help="of both towers")
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--images-at-once", type=arguments.positive, default=64, help="default: %(default)s")
    add("--max-images", type=arguments.count, default=0, help="only so many of each set (0: all)")
    add("--num-workers", type=arguments.workers, default=1, help="processes that load images")
    output = {"default": Path("output/eval_class_token"), "help": "folder of the results"}
    add("--output", type=arguments.output_folder, **output)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
