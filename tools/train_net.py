#!/usr/bin/env python3
"""Train and evaluate CAT-Seg.

tools/train_net.py --config-file declip_catseg_nano.yaml
tools/train_net.py --config-file declip_catseg_vitb.yaml --num-gpus 4 MODEL.ENCODER.WEIGHTS declip.safetensors
tools/train_net.py --config-file declip_catseg_vitb.yaml --eval-only MODEL.WEIGHTS output/.../model_final.pth
torchrun --nproc-per-node 4 tools/train_net.py --config-file declip_catseg_vitb.yaml
"""

import argparse

from d2host.engine.command import argument_parser, run_command


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from catseg.config import get_catseg_cfg
    from catseg.trainer import SegmentationTrainer
    from d2host import build_model
    from d2host.engine.run import run_training

    run_training(args, get_catseg_cfg, build_model, SegmentationTrainer)


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
