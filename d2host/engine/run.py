"""From the command line of a training to a trained or evaluated model."""

import argparse
import logging
from collections.abc import Callable, Sequence

from torch import nn

from d2host import CfgNode, comm
from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.config_file import find_config
from d2host.engine.errors import CheckpointError
from d2host.engine.loading import per_process_batch
from d2host.engine.options import TrainingOptions
from d2host.engine.setup import resolve_device, setup_run
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

    Args:
        args: of :func:`d2host.engine.command.argument_parser`.
        read_config: (config file, overrides) → checked configuration.
        build_model: configuration → model on ``MODEL.DEVICE``.
        build_trainer: configuration, model → trainer.

    Raises:
        ConfigError: the configuration cannot work, or ``OUTPUT_DIR`` holds an earlier run that is not resumed.
        CheckpointError: there is nothing to evaluate, or it is no checkpoint of this model.
    """
    args.config_file = str(find_config(args.config_file)) if args.config_file else ""  # the host logs the file, too
    cfg = read_config(args.config_file, args.opts)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    TrainingOptions.from_config(cfg)  # what this machine cannot do is refused before anything is built
    if not args.eval_only:
        per_process_batch(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    checkpointer = RunCheckpointer(cfg.OUTPUT_DIR)
    last = checkpointer.last()
    newest = args.resume or (args.eval_only and not cfg.MODEL.WEIGHTS)
    if args.eval_only and newest and not last:
        raise CheckpointError(f"{cfg.OUTPUT_DIR} holds no checkpoint: train first, or give MODEL.WEIGHTS to evaluate")
    if not (args.eval_only or args.resume):
        checkpointer.require_none()
    described = cfg.clone()  # the trainer's: what a run is does not depend on where it was resumed
    cfg.MODEL.WEIGHTS = weights = str(last) if newest and last else cfg.MODEL.WEIGHTS
    described.freeze()
    cfg.freeze()
    setup_run(described, args)
    trainer = build_trainer(described, build_model(cfg))
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in trainer.model.parameters()]
    total, training = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    logger = logging.getLogger("d2host.run")
    logger.info("%.1f M parameters, of which %.1f M train", total / 1e6, training / 1e6)
    if weights and (args.eval_only or not (args.resume and last)):
        trainer.load_weights(weights)
        logger.info("Weights of %s", weights)
    if args.eval_only:
        trainer.report()
    else:
        trainer.run(args.resume)
