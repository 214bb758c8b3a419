#!/usr/bin/env python3
"""Train a nano model from nothing on scenes drawn on the fly.

tools/nano/pretrain.py --config-file nano_clip.yaml
tools/nano/pretrain.py --config-file nano_vfm.yaml --resume
tools/nano/pretrain.py --config-file nano_vfm.yaml --eval-only MODEL.PRETRAINING.WEIGHTS nano-vfm

The weights end up in OUTPUT_DIR/weights.safetensors.
"""

import logging

from d2host import default_argument_parser, print_csv_format
from d2host.engine import resolve_device, run_command, setup_run
from d2host.engine.config_file import find_config
from d2host.engine.errors import CheckpointError
from nanoworld.pretraining import PretrainingTrainer, build_pretraining, get_pretraining_cfg


def main(args) -> None:
    """One process of a run."""
    args.config_file = str(find_config(args.config_file)) if args.config_file else ""
    cfg = get_pretraining_cfg(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    setup_run(cfg, args)
    trainer = PretrainingTrainer(cfg, build_pretraining(cfg))
    if not args.eval_only:
        trainer.run(args.resume)
        return
    checkpoint, weights = trainer.checkpointer.last(), cfg.MODEL.PRETRAINING.WEIGHTS
    if checkpoint is not None:
        trainer.resume()
    elif not weights:
        raise CheckpointError(
            f"{cfg.OUTPUT_DIR} holds no checkpoint: train first, or give its OUTPUT_DIR or MODEL.PRETRAINING.WEIGHTS"
        )
    logging.getLogger("declip").info("Evaluating %s", checkpoint or weights)
    print_csv_format(trainer.evaluate())


if __name__ == "__main__":
    run_command(main, default_argument_parser(epilog=__doc__).parse_args())
