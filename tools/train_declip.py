#!/usr/bin/env python3
"""Distil a CLIP into a DeCLIP.

tools/train_declip.py --config-file distill_nano.yaml
tools/train_declip.py --config-file distill_eva_vitb16.yaml --num-gpus 8 DATASETS.IMAGES coco/train2017
tools/train_declip.py --config-file distill_eva_vitb16.yaml --resume
torchrun --nproc-per-node 8 tools/train_declip.py --config-file distill_eva_vitb16.yaml

The encoder's weights end up in OUTPUT_DIR/declip.safetensors, for MODEL.ENCODER.WEIGHTS of tools/train_net.py.
"""

from d2host import default_argument_parser, print_csv_format
from d2host.engine import resolve_device, run_command, setup_run
from d2host.engine.config_file import find_config
from d2host.engine.errors import CheckpointError, ConfigError
from declip.distill import DistillationTrainer, build_distillation, get_distillation_cfg


def main(args) -> None:
    """One process of a run."""
    args.config_file = str(find_config(args.config_file)) if args.config_file else ""
    cfg = get_distillation_cfg(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    if not cfg.DATASETS.IMAGES:
        raise ConfigError("DATASETS.IMAGES is empty: name a folder of images, a list, shards, or nano_train")
    cfg.freeze()
    setup_run(cfg, args)
    trainer = DistillationTrainer(cfg, build_distillation(cfg))
    if args.eval_only:
        evaluate_only(trainer)
        return
    trainer.run(args.resume)


def evaluate_only(trainer: DistillationTrainer) -> None:
    """Region classification by the newest checkpoint of the output directory."""
    if trainer.checkpointer.last() is None:
        raise CheckpointError(f"{trainer.cfg.OUTPUT_DIR} holds no checkpoint: train first, or give its OUTPUT_DIR")
    if trainer.regions is None:
        raise ConfigError("TEST.EVAL_PERIOD is 0, so no region set is loaded: set it, and TEST.REGIONS, to evaluate")
    trainer.resume()
    print_csv_format(trainer.evaluate())


if __name__ == "__main__":
    run_command(main, default_argument_parser(epilog=__doc__).parse_args())
