#!/usr/bin/env python3
"""Train a nano model from nothing on scenes drawn on the fly.

tools/nano/pretrain.py --config-file nano_clip.yaml
tools/nano/pretrain.py --config-file nano_vfm.yaml --resume
tools/nano/pretrain.py --config-file nano_vfm.yaml --eval-only MODEL.WEIGHTS nano-vfm

The weights end up in OUTPUT_DIR/weights.safetensors.
"""

import argparse

from d2host.engine.command import argument_parser, run_command


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host.engine.run import run_training
    from nanoworld.pretraining import PretrainingTrainer, build_pretraining, get_pretraining_cfg

    run_training(args, get_pretraining_cfg, build_pretraining, PretrainingTrainer)


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
