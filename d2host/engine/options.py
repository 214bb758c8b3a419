"""How a training goes: its length, steps, checkpoints and evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision, amp_precision
from d2host.engine.state import plain

if TYPE_CHECKING:
    from d2host import CfgNode


@dataclass(frozen=True)
class TrainingOptions:
    """What a :class:`d2host.engine.Trainer` does with its model and optimizer.

    Attributes:
        output_dir: of checkpoints, ``metrics.json`` and TensorBoard's events.
        max_iter: iterations of the whole training.
        warmup_iters, warmup_factor: of :func:`d2host.engine.schedule.warmup_cosine`.
        precision: of matrix products.
        accumulation_steps: batches per optimizer step.
        clip_norm: largest L2 norm of the gradient of all parameters together; 0: no clipping.
        checkpoint_period: iterations between checkpoints; 0: only at the end.
        keep: how many periodic checkpoints are kept; 0: all.
        eval_period: iterations between evaluations; 0: only at the end.
        config: everything the run was configured with, kept in its checkpoints.

    >>> TrainingOptions("output/line", max_iter=100, clip_norm=1.0).precision
    <Precision.FP32: 'fp32'>
    """

    output_dir: str | Path
    max_iter: int
    warmup_iters: int = 0
    warmup_factor: float = 0.0
    precision: Precision = Precision.FP32
    accumulation_steps: int = 1
    clip_norm: float = 0.0
    checkpoint_period: int = 0
    keep: int = 3
    eval_period: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TrainingOptions:
        """From ``SOLVER``, ``TEST.EVAL_PERIOD`` and ``OUTPUT_DIR``.

        Raises:
            ConfigError: fp16 on a CPU.
        """
        solver = cfg.SOLVER
        precision = amp_precision(solver.AMP, cfg.MODEL.DEVICE)
        if precision is Precision.FP16 and cfg.MODEL.DEVICE == "cpu":
            raise ConfigError("SOLVER.AMP.DTYPE fp16 needs a GPU: use bf16 on the CPU")
        return cls(
            cfg.OUTPUT_DIR,
            solver.MAX_ITER,
            solver.WARMUP_ITERS,
            solver.WARMUP_FACTOR,
            precision,
            solver.ACCUMULATION_STEPS,
            solver.CLIP_GRADIENTS.CLIP_VALUE if solver.CLIP_GRADIENTS.ENABLED else 0.0,
            solver.CHECKPOINT_PERIOD,
            solver.MAX_CHECKPOINTS,
            cfg.TEST.EVAL_PERIOD,
            plain(cfg),
        )
