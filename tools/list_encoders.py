#!/usr/bin/env python3
"""Show which models of open_clip can be the encoder, with their sizes, or why not.

tools/list_encoders.py ViT-B-16-SigLIP2 PE-Core-B-16
tools/list_encoders.py --output docs/encoders.md
"""

import argparse

from d2host.engine import arguments
from d2host.engine.command import run_command


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    import logging

    import open_clip

    from d2host.engine.atomic import replacing
    from declip.models.catalogue import catalogue_page, describe_encoder

    logging.disable(logging.WARNING)  # open_clip warns that nothing has weights
    if args.output is None:
        for name in args.names or open_clip.list_models():
            entry = describe_encoder(name)
            print(f"{name}: not supported, {entry.missing}" if entry.missing else "  ".join(entry.row()))
        return
    page = catalogue_page(args.names or open_clip.list_models())
    with replacing(args.output) as part:
        part.write_text(page, encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names of open_clip (default: all)")
    parser.add_argument(
        "--output", type=arguments.output_file(".md"), help="write a page of them here instead of printing lines"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
