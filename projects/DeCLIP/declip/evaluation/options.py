"""Command-line options that every evaluation of an encoder has, and the encoder that they describe.

Nothing here imports torch before it is needed, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.precision import AUTO, Precision
from declip.contexts import AttentionScale, ContextType
from declip.models.templates import Templates

if TYPE_CHECKING:
    from declip.models.attention import Context
    from declip.models.encoder import DenseCLIP


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Declare which encoder is evaluated, and how it looks at images and names."""
    add = parser.add_argument
    kinds = ", ".join([*(kind.value for kind in ContextType), "neighbours", "proxy:<foundation model>"])
    add("--encoder", required=True, help="an open_clip model name, or nano")
    add("--weights", required=True, help="a weight file, an open_clip tag, nano-clip, nano-declip, or random")
    add("--contexts", nargs="+", help=f"how the last block attends, a row each: {kinds} (default: as the weights say)")
    add("--proxy-weights", help="of the proxies: random, or a weight file (default: as published)")
    add("--attention-scale", choices=[scale.value for scale in AttentionScale], help="default: as the weights say")
    add("--prompts", default="imagenet", choices=[each.value for each in Templates], help="default: %(default)s")
    precision = {"default": "fp32", "help": "of the image tower; auto: the fastest here (default: %(default)s)"}
    add("--precision", choices=[AUTO, *(each.value for each in Precision)], **precision)
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")


def add_run_options(parser: argparse.ArgumentParser, images_at_once: int, output: str) -> None:
    """Declare how much is read and what is written, with defaults of a program's own."""
    add = parser.add_argument
    defaults = {"default": images_at_once, "help": "images read together (default: %(default)s)"}
    add("--images-at-once", type=arguments.positive, **defaults)
    add("--num-gpus", type=arguments.processes, default=1, help="processes here, each with a share of the images")
    add("--max-images", type=arguments.count, default=0, help="only the first of each set (0: all)")
    add("--num-workers", type=arguments.workers, default=1, help="processes that load images")
    add("--save-predictions", action="store_true", help="write what is predicted, image by image")
    cache = {"default": Path("output/class_embeddings"), "help": "folder that keeps class embeddings"}
    add("--cache", type=arguments.output_folder, **cache)
    add("--output", type=arguments.output_folder, default=Path(output), help="folder of the results")


def load_encoder(args: argparse.Namespace) -> tuple[DenseCLIP, list[ContextType | Context]]:
    """The encoder of :func:`add_encoder_options` on its device, in evaluation mode, and its contexts, none twice.

    Raises:
        ConfigError, CheckpointError: an option cannot be used, or the weights cannot be had.
    """
    from d2host.engine.setup import resolve_device
    from declip import build_encoder
    from declip.other_contexts import parse_contexts

    device = resolve_device(args.device)
    encoder = build_encoder(args.encoder, args.weights, attention_scale=args.attention_scale).to(device).eval()
    if args.weights == "random":
        logging.getLogger(__name__).warning("--weights is random: the numbers of such an encoder mean nothing")
    names = list(dict.fromkeys(args.contexts or [encoder.context.value]))
    return encoder, parse_contexts(names, args.proxy_weights, device)
