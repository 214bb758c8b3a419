"""What every training of the project shares, whatever it trains.

* :class:`Trainer`, :class:`StepOptions`: the loop body with accumulation, autocast, clipping and exact resume
* :class:`ConfiguredTrainer`: the same with schedule, checkpoints, evaluation and logs as a config says
* :class:`RunCheckpointer`: atomic checkpoints of a whole run
* :class:`ResumableSampler`: which sample comes when
* :func:`build_optimizer`, :func:`warmup_cosine`: AdamW groups and the learning-rate schedule
* :class:`Precision`: mixed precision on CUDA and CPU
* :func:`run_command`, :func:`launch`, :func:`setup_run`: command line, processes, logs and device
"""

from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.command import run_command
from d2host.engine.configured import ConfiguredTrainer
from d2host.engine.distributed import launch
from d2host.engine.optimizer import OptimizerOptions, build_optimizer
from d2host.engine.precision import Precision
from d2host.engine.sampler import ResumableSampler
from d2host.engine.schedule import warmup_cosine
from d2host.engine.setup import resolve_device, setup_run
from d2host.engine.trainer import StepOptions, Trainer

__all__ = [
    "ConfiguredTrainer",
    "OptimizerOptions",
    "Precision",
    "ResumableSampler",
    "RunCheckpointer",
    "StepOptions",
    "Trainer",
    "build_optimizer",
    "launch",
    "resolve_device",
    "run_command",
    "setup_run",
    "warmup_cosine",
]
