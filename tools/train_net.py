#!/usr/bin/env python3
"""Train and evaluate CAT-Seg, F-ViT, or what else MODEL.META_ARCHITECTURE of the config names.

tools/train_net.py --config-file declip_catseg_nano.yaml
tools/train_net.py --config-file declip_catseg_vitb.yaml --num-gpus 4 MODEL.ENCODER.WEIGHTS declip.safetensors
tools/train_net.py --config-file declip_catseg_vitb.yaml --eval-only MODEL.WEIGHTS output/.../model_final.pth
tools/train_net.py --config-file fvit_ov_coco_vitb.yaml --num-gpus 8 MODEL.ENCODER.WEIGHTS declip.safetensors
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
    from d2host import build_model
    from d2host.engine.config_file import peek_key
    from d2host.engine.errors import ConfigError
    from d2host.engine.keys import shown
    from d2host.engine.run import run_training
    from declip.plugins import from_plugins

    architecture = peek_key("MODEL.META_ARCHITECTURE", args.config_file, args.opts, default="CATSeg")
    trainings = from_plugins("trainings")
    if not isinstance(architecture, str) or architecture not in trainings:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {shown(architecture)}, which no package trains: choose one of "
            f"{', '.join(trainings)}"
        )
    training = trainings[architecture]()

    def read_config(config_file: str, opts: Sequence[str]) -> "CfgNode":
        return training.read_config(config_file, opts, not args.eval_only)

    run_training(args, read_config, build_model, training.build_trainer)


if __name__ == "__main__":
    run_command(main, argument_parser(epilog=__doc__).parse_args())
