#!/usr/bin/env python3
r"""A page in the browser: drop a photo, name things, see where they are.

tools/app.py                                            # the nano world, at http://127.0.0.1:7860
tools/app.py --model output/declip_catseg_vitb
tools/app.py --model EVA02-B-16:declip.safetensors ViT-B-16:openai     # side by side

A model is what tools/demo.py takes; NAME:WEIGHTS is an encoder with weights. The page answers this machine alone unless
--host says otherwise, and has no public address unless by --share.
"""

import argparse

from d2host.engine import arguments
from d2host.engine.command import run_command

MEBI = 2**20


def main(args: argparse.Namespace) -> None:
    """Serve the page until it is interrupted."""
    from declip.app import Limits, serve

    limits = Limits(args.max_megabytes * MEBI, args.max_megapixels * 10**6, args.max_names)
    where = {"host": args.host, "port": args.port, "share": args.share}
    serve(args.model, device=args.device, limits=limits, **where)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", nargs="+", default=["nano", "nano:nano-clip"], help="one or more; the first is asked first")
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine's")
    add("--port", type=arguments.whole_number(0, 65535), default=7860, help="0: any that is free")
    add("--share", action="store_true", help="have gradio's servers hand out a public address for a while")
    add("--max-megabytes", type=arguments.whole_number(1, 1024), default=20, help="of an upload")
    add("--max-megapixels", type=arguments.whole_number(1, 200), default=40, help="of an image")
    add("--max-names", type=arguments.whole_number(1, 255), default=200, help="of classes, synonyms included")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
