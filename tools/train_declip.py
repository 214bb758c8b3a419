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
from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    from d2host import CfgNode


def main(args: argparse.Namespace) -> None:
    """One process of a run."""
    from d2host.engine.run import run_training
    from declip.distill import DistillationTrainer, build_distillation

    run_training(args, read_config, build_distillation, DistillationTrainer.from_config)


def read_config(config_file: str, opts: Sequence[str]) -> "CfgNode":
    """The configuration, which has to name images."""
    from declip.distill import get_distillation_cfg

    cfg = get_distillation_cfg(config_file, opts)
    if not cfg.DATASETS.IMAGES:
        raise ConfigError("DATASETS.IMAGES is empty: name a folder of images, a list, shards, or nano_train")
    return cfg


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
