"""From the command line of a training to a trained or evaluated model."""

import argparse
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from d2host import CfgNode, comm
from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.checkpoint_file import read_run
from d2host.engine.config_file import find_config
from d2host.engine.errors import CheckpointError
from d2host.engine.folder import owned
from d2host.engine.loading import per_process_batch
from d2host.engine.options import TrainingOptions
from d2host.engine.precision import settle_precision
from d2host.engine.setup import resolve_device, seed_run, setup_logs, write_config
from d2host.engine.state import check_continues, keep_precision, name_differences
from d2host.engine.trainer import Trainer


def run_training(
    args: argparse.Namespace,
    read_config: Callable[[str, Sequence[str]], CfgNode],
    build_model: Callable[[CfgNode], nn.Module],
    build_trainer: Callable[[CfgNode, nn.Module], Trainer],
) -> None:
    """One process of a program that trains: read the config, set up, build, then evaluate, resume or train.

    ``MODEL.WEIGHTS`` is what training starts from, or what ``--eval-only`` evaluates. With ``--resume``, and for an
    evaluation that names no weights, it is the newest checkpoint of ``OUTPUT_DIR``; ``build_model`` is told by
    ``MODEL.WEIGHTS`` that the whole model will be given its weights, and need not look for those of its parts.

    A training has ``OUTPUT_DIR`` to itself; an evaluation may run beside it, and leaves its ``config.yaml`` alone.

    Args:
        args: of :func:`d2host.engine.command.argument_parser`.
        read_config: (config file, overrides) → checked configuration.
        build_model: configuration → model on ``MODEL.DEVICE``.
        build_trainer: configuration, model → trainer.

    Raises:
        ConfigError: the configuration cannot work, or ``OUTPUT_DIR`` holds an earlier run that is not resumed, one of
            another configuration, or one that is still going on.
        CheckpointError: there is nothing to evaluate, or it is no checkpoint of this model.
        OutputError: something cannot be written there.
    """
    args.config_file = str(find_config(args.config_file)) if args.config_file else ""
    cfg = read_config(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    TrainingOptions.from_config(cfg)  # what this machine cannot do is refused before anything is built
    if not args.eval_only:
        per_process_batch(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    owner = comm.is_main_process() and not args.eval_only
    with owned(cfg.OUTPUT_DIR) if owner else nullcontext():
        last = _choose_checkpoint(cfg, args)
        described = cfg.clone()  # the trainer's: what a run is does not depend on where it was resumed
        cfg.MODEL.WEIGHTS = weights = str(last or cfg.MODEL.WEIGHTS)
        described.freeze()
        cfg.freeze()
        seed_run(cfg)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
        trainer = build_trainer(described, build_model(cfg))
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in trainer.model.parameters()]
        total, training = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
        logger = logging.getLogger("d2host.run")
        logger.info("%.1f M parameters, of which %.1f M train", total / 1e6, training / 1e6)
        if weights and (args.eval_only or not last):
            trainer.load_weights(weights)
            logger.info("Weights of %s", weights)
        if args.eval_only:
            name_differences(weights, cfg)
            trainer.report()
        else:
            trainer.run(last)


def _choose_checkpoint(cfg: CfgNode, args: argparse.Namespace) -> Path | None:
    """The checkpoint of ``OUTPUT_DIR`` to go on from or to evaluate, if any; begins the log and writes the config."""
    checkpointer = RunCheckpointer(cfg.OUTPUT_DIR)
    if not (args.eval_only or args.resume):
        checkpointer.require_none()
    newest = args.resume or (args.eval_only and not cfg.MODEL.WEIGHTS)
    if args.eval_only and newest and not checkpointer.files():
        raise CheckpointError(f"{cfg.OUTPUT_DIR} holds no checkpoint: train first, or give MODEL.WEIGHTS to evaluate")
    setup_logs(cfg.OUTPUT_DIR, args)
    last = earlier = None
    if newest:
        last = comm.all_gather(checkpointer.last() if comm.is_main_process() else None)[0]
        if last and not args.eval_only:
            earlier = read_run(last, lazy=True)["training"]
            keep_precision(earlier, cfg)
        if not last:
            logging.getLogger("d2host.run").info("No checkpoint in %s: starting anew", cfg.OUTPUT_DIR)
    settle_precision(cfg)
    if earlier:
        check_continues(last, earlier, cfg)
    if comm.is_main_process() and not (args.eval_only and checkpointer.files()):
        write_config(cfg)
    return last
