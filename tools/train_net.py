#!/usr/bin/env python3
"""Train and evaluate CAT-Seg.

tools/train_net.py --config-file declip_catseg_nano.yaml
tools/train_net.py --config-file declip_catseg_vitb.yaml --num-gpus 4 MODEL.ENCODER.WEIGHTS declip.safetensors
tools/train_net.py --config-file declip_catseg_vitb.yaml --eval-only MODEL.WEIGHTS output/.../model_final.pth
torchrun --nproc-per-node 4 tools/train_net.py --config-file declip_catseg_vitb.yaml
"""

import logging

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.checkpoint import load_model_weights
from catseg.config import get_catseg_cfg
from catseg.trainer import SegmentationTrainer, log_size
from d2host import build_model, comm, default_argument_parser, print_csv_format, verify_results
from d2host.engine import RunCheckpointer, resolve_device, run_command, setup_run
from d2host.engine.config_file import find_config
from d2host.engine.errors import CheckpointError
from declip.evaluation import evaluate_datasets


def main(args) -> None:
    """One process of a run."""
    args.config_file = str(find_config(args.config_file)) if args.config_file else ""
    cfg = get_catseg_cfg(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    setup_run(cfg, args)
    model = build_model(with_whole_model(cfg, args.resume))
    log_size(model)
    if args.eval_only:
        evaluate_only(cfg, model, args.resume)
        return
    if cfg.MODEL.WEIGHTS:
        load_model_weights(cfg.MODEL.WEIGHTS, model)
    SegmentationTrainer(cfg, model).run(args.resume)


def with_whole_model(cfg, resume: bool):
    """``cfg`` with the checkpoint to go on from as ``MODEL.WEIGHTS``: the encoder then needs no weights of its own."""
    last = RunCheckpointer(cfg.OUTPUT_DIR).last() if resume else None
    if not last:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(last)
    return cfg


def evaluate_only(cfg, model, newest: bool) -> None:
    """Evaluate ``MODEL.WEIGHTS``, or the newest checkpoint of the output directory."""
    weights = RunCheckpointer(cfg.OUTPUT_DIR).last() if newest else cfg.MODEL.WEIGHTS
    if newest and not weights:
        raise CheckpointError(f"{cfg.OUTPUT_DIR} holds no checkpoint: train first, or give MODEL.WEIGHTS")
    if weights:
        load_model_weights(weights, model)
    else:
        logging.getLogger("catseg").warning("MODEL.WEIGHTS is empty: the head is random and its numbers mean nothing")
    results = evaluate_datasets(cfg, model)
    if comm.is_main_process():
        for name, result in results.items():
            logging.getLogger("catseg").info("copypaste: Dataset: %s", name)
            print_csv_format(result)
        verify_results(cfg, results[cfg.DATASETS.TEST[0]])


if __name__ == "__main__":
    run_command(main, default_argument_parser(epilog=__doc__).parse_args())
