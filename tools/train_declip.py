#!/usr/bin/env python3
"""Distil a CLIP into a DeCLIP.

tools/train_declip.py --config-file distill_nano.yaml
tools/train_declip.py --config-file distill_eva_vitb16.yaml --num-gpus 8 DATASETS.IMAGES coco/train2017
tools/train_declip.py --config-file distill_eva_vitb16.yaml --resume
torchrun --nproc-per-node 8 tools/train_declip.py --config-file distill_eva_vitb16.yaml

The encoder's weights end up in OUTPUT_DIR/declip.safetensors, for MODEL.ENCODER.WEIGHTS of tools/train_net.py.
"""

from argparse import Namespace

from d2host import default_argument_parser
from d2host.engine import run_command


def main(args: Namespace) -> None:
    """One process of a run, or of the evaluation of its newest checkpoint."""
    from d2host import print_csv_format
    from d2host.engine import resolve_device, setup_run
    from d2host.engine.config_file import find_config
    from d2host.engine.errors import CheckpointError, ConfigError
    from declip.distill import DistillationTrainer, build_distillation, build_regions, get_distillation_cfg

    args.config_file = str(find_config(args.config_file)) if args.config_file else ""
    cfg = get_distillation_cfg(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    if not cfg.DATASETS.IMAGES:
        raise ConfigError("DATASETS.IMAGES is empty: name a folder of images, a list, shards, or nano_train")
    if args.eval_only and not cfg.TEST.REGIONS:
        raise ConfigError("TEST.REGIONS is empty: name labelled regions to evaluate on")
    cfg.freeze()
    setup_run(cfg, args)
    regions = build_regions(cfg) if args.eval_only or cfg.TEST.EVAL_PERIOD else None
    trainer = DistillationTrainer(cfg, build_distillation(cfg), regions)
    if not args.eval_only:
        trainer.run(args.resume)
        return
    if trainer.checkpointer.last() is None:
        raise CheckpointError(f"{cfg.OUTPUT_DIR} holds no checkpoint: train first, or give its OUTPUT_DIR")
    trainer.resume()
    print_csv_format(trainer.evaluate())


if __name__ == "__main__":
    run_command(main, default_argument_parser(epilog=__doc__).parse_args())
