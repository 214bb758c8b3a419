"""The configuration keys that every training here reads, and what they may be.

A program's tree holds the keys that it declares and no others, on either host: ``add_run_config``,
``add_solver_config``, then its own. A key that nobody reads is refused by name when it is given.
"""

import math
from typing import Any

from fvcore.common.config import CfgNode

from d2host.engine.config_file import check_at_least, check_choices
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision


def add_run_config(cfg: CfgNode) -> None:
    """Declare what :func:`d2host.engine.run.run_training` and the host's set-up read, in place."""
    for name in ("MODEL", "DATALOADER", "SOLVER", "TEST"):
        cfg.setdefault(name, type(cfg)())
    cfg.VERSION = 2  # of the format, as Detectron2 counts
    cfg.MODEL.DEVICE = "auto"  # auto: a GPU where there is one, else the CPU
    cfg.MODEL.WEIGHTS = ""  # a checkpoint of a whole model, for evaluation or to start from
    cfg.DATALOADER.NUM_WORKERS = 4  # processes that load samples
    cfg.TEST.EVAL_PERIOD = 0  # iterations between evaluations; 0: only at the end
    cfg.OUTPUT_DIR = "./output"  # of logs, checkpoints and results
    cfg.SEED = 0  # of the weights' initialisation, the order of samples and their augmentation; -1: another each time
    cfg.CUDNN_BENCHMARK = False  # let cuDNN try its algorithms first


def add_solver_config(cfg: CfgNode, **defaults: Any) -> None:
    """Declare ``SOLVER``: AdamW, its schedule, its steps and its checkpoints, in place.

    Args:
        cfg: of :func:`add_run_config`.
        defaults: a program's own; of a group of keys a dict, such as ``AMP={"ENABLED": True}``.

    >>> from fvcore.common.config import CfgNode
    >>> cfg = CfgNode({"SOLVER": {}})
    >>> add_solver_config(cfg, BASE_LR=1e-5, CLIP_GRADIENTS={"CLIP_VALUE": 0.01})
    >>> cfg.SOLVER.BASE_LR, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    (1e-05, 0.01)
    """
    node = type(cfg)
    solver = cfg.SOLVER = node()
    solver.BASE_LR = 1e-4
    solver.WEIGHT_DECAY = 1e-4
    solver.BETAS = (0.9, 0.999)  # of AdamW
    solver.EPS = 1e-8  # of AdamW
    solver.MAX_ITER = 40_000
    solver.WARMUP_ITERS = 0  # a linear warm-up, then half a cosine to zero
    solver.WARMUP_FACTOR = 0.0  # of the learning rate, where the warm-up begins
    solver.IMS_PER_BATCH = 16  # samples per batch, over all processes
    solver.ACCUMULATION_STEPS = 1  # batches per optimizer step
    solver.CLIP_GRADIENTS = node()
    solver.CLIP_GRADIENTS.ENABLED = False
    solver.CLIP_GRADIENTS.CLIP_TYPE = "full_model"  # one norm over all parameters
    solver.CLIP_GRADIENTS.CLIP_VALUE = 1.0  # largest L2 norm
    solver.AMP = node()
    solver.AMP.ENABLED = False  # mixed precision
    solver.AMP.DTYPE = "bf16"  # bf16, fp16 (fp16 needs a GPU)
    solver.CHECKPOINT_PERIOD = 5000  # iterations between checkpoints; 0: only at the end
    solver.MAX_CHECKPOINTS = 3  # periodic checkpoints that are kept; 0: all
    for key, value in defaults.items():
        if isinstance(value, dict):
            solver[key].update(value)
        else:
            solver[key] = value


def check_solver(cfg: CfgNode) -> None:
    """Refuse values of ``SOLVER`` and of the run that no training can use.

    Raises:
        ConfigError: naming the key and what it may be.
    """
    solver = cfg.SOLVER
    check_choices(
        {
            "SOLVER.AMP.DTYPE": (solver.AMP.DTYPE, [precision.value for precision in Precision]),
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (solver.CLIP_GRADIENTS.CLIP_TYPE, ["full_model"]),
        }
    )
    counts = ("MAX_ITER", "IMS_PER_BATCH", "ACCUMULATION_STEPS")
    check_at_least(1, {f"SOLVER.{name}": solver[name] for name in counts})
    periods = {f"SOLVER.{name}": solver[name] for name in ("WARMUP_ITERS", "CHECKPOINT_PERIOD", "MAX_CHECKPOINTS")}
    more = {"TEST.EVAL_PERIOD": cfg.TEST.EVAL_PERIOD, "DATALOADER.NUM_WORKERS": cfg.DATALOADER.NUM_WORKERS}
    check_at_least(0, periods | more | {name: value for name, value in _numbers(solver) if "DECAY" in name})
    for name, value in _numbers(solver):
        if not math.isfinite(value):
            raise ConfigError(f"{name} is {value}: it must be a finite number")
    clip = solver.CLIP_GRADIENTS
    positive = {"SOLVER.BASE_LR": solver.BASE_LR, "SOLVER.EPS": solver.EPS}
    if clip.ENABLED:
        positive["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"] = clip.CLIP_VALUE
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} is {value}: it must be a finite number above 0")
    if len(solver.BETAS) != 2 or not all(0 <= beta < 1 for beta in solver.BETAS):
        raise ConfigError(f"SOLVER.BETAS is {tuple(solver.BETAS)}: it must be two numbers in [0, 1)")
    if not 0 <= solver.WARMUP_FACTOR <= 1:
        raise ConfigError(f"SOLVER.WARMUP_FACTOR is {solver.WARMUP_FACTOR}: it must be in [0, 1]")
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        raise ConfigError(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is not below SOLVER.MAX_ITER {solver.MAX_ITER}, so that the "
            f"learning rate would never reach SOLVER.BASE_LR: lower it, for instance to {solver.MAX_ITER // 20}"
        )


def _numbers(solver: CfgNode) -> list[tuple[str, float]]:
    return [(f"SOLVER.{name}", value) for name, value in solver.items() if isinstance(value, (int, float))]
