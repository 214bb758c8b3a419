"""A training as a config describes it: schedule, precision, checkpoints, evaluation, logs, resume."""

from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from d2host import CfgNode, CommonMetricPrinter, HookBase, JSONWriter, TensorboardXWriter, comm, hooks
from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.errors import ConfigError
from d2host.engine.hooks import CheckpointHook, forget_metrics_from
from d2host.engine.precision import Precision
from d2host.engine.schedule import warmup_cosine
from d2host.engine.trainer import StepOptions, Trainer

METRICS_FILE = "metrics.json"
WRITE_PERIOD = 20


class ConfiguredTrainer(Trainer):
    """A :class:`Trainer` whose schedule, steps, checkpoints and logs are those of ``cfg.SOLVER`` and ``OUTPUT_DIR``.

    Subclasses give the batches (:meth:`build_train_loader`) and :meth:`evaluate`.

    Args:
        cfg: the configuration.
        model: on its device.
        optimizer: of the model's parameters.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, optimizer: Optimizer) -> None:
        self.cfg = cfg
        solver = cfg.SOLVER
        scheduler = warmup_cosine(optimizer, solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_FACTOR)
        checkpointer = RunCheckpointer(cfg.OUTPUT_DIR, solver.MAX_CHECKPOINTS)
        super().__init__(model, optimizer, scheduler, checkpointer, step_options(cfg))

    def evaluate(self) -> dict:
        """Metrics of the model as it is, every ``TEST.EVAL_PERIOD`` iterations and at the end."""
        raise NotImplementedError  # abstract

    def run(self, resume: bool = False) -> None:
        """Train from the beginning, or from the newest checkpoint, to the end.

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


def step_options(cfg: CfgNode) -> StepOptions:
    """How a step is made, from ``SOLVER``.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    solver = cfg.SOLVER
    precision = Precision(solver.AMP.DTYPE) if solver.AMP.ENABLED else Precision.FP32
    if precision is Precision.FP16 and cfg.MODEL.DEVICE == "cpu":
        raise ConfigError("SOLVER.AMP.DTYPE fp16 needs a GPU: use bf16 on the CPU")
    clip = solver.CLIP_GRADIENTS
    return StepOptions(precision, solver.ACCUMULATION_STEPS, clip.CLIP_VALUE if clip.ENABLED else 0.0)
