#!/usr/bin/env python3
"""Train and evaluate CAT-Seg.

tools/train_net.py --config-file declip_catseg_nano.yaml
tools/train_net.py --config-file declip_catseg_vitb.yaml --num-gpus 4 MODEL.ENCODER.WEIGHTS declip.safetensors
tools/train_net.py --config-file declip_catseg_vitb.yaml --eval-only MODEL.WEIGHTS output/.../model_final.pth
torchrun --nproc-per-node 4 tools/train_net.py --config-file declip_catseg_vitb.yaml
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from d2host.engine.command import argument_parser, run_command

if TYPE_CHECKING:
    from d2host import CfgNode


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from catseg.checkpoint import state_attention
    from catseg.config import get_catseg_cfg
    from catseg.loader import check_inputs
    from catseg.trainer import SegmentationTrainer
    from d2host import build_model
    from d2host.engine.run import run_training

    def read_config(config_file: str, opts: Sequence[str]) -> "CfgNode":
        """The configuration, whose weights and datasets have to be there."""
        cfg = get_catseg_cfg(config_file, opts)
        check_inputs(cfg, training=not args.eval_only)
        state_attention(cfg)
        return cfg

    run_training(args, read_config, build_model, SegmentationTrainer)


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
