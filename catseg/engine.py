"""Training CAT-Seg: the project's training loop with CAT-Seg's data, optimizer groups, evaluation and logs."""

import logging
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from catseg.data.loader import build_train_loader
from catseg.evaluation.run import evaluate_datasets, without_classes
from d2host import CfgNode, CommonMetricPrinter, HookBase, JSONWriter, TensorboardXWriter, comm, hooks
from declip.engine import (
    OptimizerOptions,
    Precision,
    RunCheckpointer,
    StepOptions,
    Trainer,
    build_optimizer,
    warmup_cosine,
)
from declip.engine.checkpoint import unwrap
from declip.engine.hooks import CheckpointHook, forget_metrics_from
from declip.errors import ConfigError
from declip.finetune import no_weight_decay

METRICS_FILE = "metrics.json"
WRITE_PERIOD = 20


class SegmentationTrainer(Trainer):
    """Trains a :class:`catseg.modeling.CATSeg` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self.cfg = cfg
        optimizer = build_optimizer(model, optimizer_options(cfg, model))
        solver = cfg.SOLVER
        scheduler = warmup_cosine(optimizer, solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_FACTOR)
        checkpointer = RunCheckpointer(cfg.OUTPUT_DIR, solver.MAX_CHECKPOINTS)
        super().__init__(model, optimizer, scheduler, checkpointer, step_options(cfg))

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of ``DATASETS.TRAIN`` from an iteration on."""
        return build_train_loader(self.cfg, start_iter)

    def run(self, resume: bool = False) -> None:
        """Train from the beginning, or from the newest checkpoint, to the end and evaluate.

        Raises:
            ConfigError: the output directory holds another run and ``resume`` is not asked for.
        """
        last = self.checkpointer.last()
        if last and not resume:
            raise ConfigError(
                f"{last} is of an earlier run: add --resume to go on with it, or give another OUTPUT_DIR to start anew"
            )
        start_iter = self.resume() if resume else 0
        if comm.is_main_process():
            forget_metrics_from(Path(self.cfg.OUTPUT_DIR) / METRICS_FILE, start_iter)
        self.register_hooks(self._build_hooks())
        self.train(start_iter, self.cfg.SOLVER.MAX_ITER)

    def evaluate(self) -> dict:
        """Evaluate the model as it is; metrics without those of single classes, for the log."""
        results = evaluate_datasets(self.cfg, unwrap(self.model))
        return {name: without_classes(result["sem_seg"]) for name, result in results.items()}

    def _build_hooks(self) -> list[HookBase]:
        built: list[HookBase] = [
            hooks.IterationTimer(),
            CheckpointHook(self.cfg.SOLVER.CHECKPOINT_PERIOD),
            hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, self.evaluate),
        ]
        if comm.is_main_process():
            folder = self.cfg.OUTPUT_DIR
            writers = [
                CommonMetricPrinter(self.cfg.SOLVER.MAX_ITER),
                JSONWriter(str(Path(folder) / METRICS_FILE)),
                TensorboardXWriter(folder),
            ]
            built.append(hooks.PeriodicWriter(writers, WRITE_PERIOD))
        return built


def optimizer_options(cfg: CfgNode, model: nn.Module) -> OptimizerOptions:
    """CAT-Seg's groups: the encoder's learning rate is multiplied by ``SOLVER.CLIP_MULTIPLIER``."""
    solver = cfg.SOLVER
    return OptimizerOptions(
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        lr_multipliers={"encoder.": solver.CLIP_MULTIPLIER},
        no_decay={f"encoder.{name}" for name in no_weight_decay(model.encoder)},
    )


def step_options(cfg: CfgNode) -> StepOptions:
    """How a step is made, from ``SOLVER``."""
    solver = cfg.SOLVER
    precision = Precision(solver.AMP.DTYPE) if solver.AMP.ENABLED else Precision.FP32
    if precision is Precision.FP16 and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError("SOLVER.AMP.DTYPE fp16 needs a GPU: use bf16 on the CPU")
    clip = solver.CLIP_GRADIENTS
    return StepOptions(precision, solver.ACCUMULATION_STEPS, clip.CLIP_VALUE if clip.ENABLED else 0.0)


def log_size(model: nn.Module) -> None:
    """Log how many parameters there are and how many train."""
    total = sum(parameter.numel() for parameter in model.parameters())
    training = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logging.getLogger(__name__).info("%.1f M parameters, of which %.1f M train", total / 1e6, training / 1e6)
