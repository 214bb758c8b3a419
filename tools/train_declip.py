#!/usr/bin/env python3
"""Distil a CLIP into a DeCLIP.

tools/train_declip.py --config-file distill_nano.yaml
tools/train_declip.py --config-file distill_eva_vitb16.yaml --num-gpus 8 DATASETS.IMAGES coco/train2017
tools/train_declip.py --config-file distill_eva_vitb16.yaml --resume
torchrun --nproc-per-node 8 tools/train_declip.py --config-file distill_eva_vitb16.yaml

The encoder's weights end up in OUTPUT_DIR/declip.safetensors, for MODEL.ENCODER.WEIGHTS of tools/train_net.py.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from d2host.engine.command import argument_parser, run_command

if TYPE_CHECKING:
    from d2host import CfgNode


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host.engine.run import run_training
    from declip.distill import DistillationTrainer, build_distillation, check_inputs, get_distillation_cfg

    def read_config(config_file: str, opts: Sequence[str]) -> "CfgNode":
        """The configuration, whose weights, images and regions have to be there."""
        cfg = get_distillation_cfg(config_file, opts)
        check_inputs(cfg, training=not args.eval_only)
        return cfg

    run_training(args, read_config, build_distillation, DistillationTrainer.from_config)


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
