"""What a checkpoint keeps of a run besides its model and optimizer, and whether a config may go on with it."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2host import CfgNode, EventStorage
from d2host.engine.checkpoint_file import read_run
from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.precision import AUTO, Precision

MAY_CHANGE = {  # last parts of keys: where files lie, how the machine is used, what is kept, how long it goes
    *("OUTPUT_DIR", "WEIGHTS", "IMAGES", "IMAGE_ROOT", "DEVICE", "NUM_WORKERS", "RECOMPUTE", "TOKEN_CHUNK"),
    *("CUDNN_BENCHMARK", "CHECKPOINT_PERIOD", "MAX_CHECKPOINTS", "MAX_ITER", "VERSION", "CACHE", "CACHE_LIMIT"),
}
TIMES = {"time", "data_time", "images_per_second", "eta_seconds"}  # metrics of the machine and not of the run
WINDOW = 20  # iterations that metrics are the median of, as on the console


def check_continues(path: Path, training: Mapping[str, Any], cfg: CfgNode) -> None:
    """Make sure that a run goes on as what it was, and log what is different and may be.

    How a run is evaluated (``TEST``) may change, and what :data:`MAY_CHANGE` names. With another ``MAX_ITER`` the
    learning rate follows the new schedule from here on.

    Args:
        path: the checkpoint to go on from.
        training: its training state.
        cfg: the present configuration.

    Raises:
        ConfigError: the checkpoint was made with another configuration, or has gone further than ``SOLVER.MAX_ITER``.
    """
    done = training["iteration"] + 1
    if done > cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, but {path} has done {done} iterations: raise it, or give "
            "another OUTPUT_DIR and the checkpoint as MODEL.WEIGHTS to start anew"
        )
    then, now = dict(_leaves(training["config"])), dict(_leaves(plain(cfg)))
    changed = [key for key in then if key in now and then[key] != now[key]]
    left_out = [key for key in changed if key.endswith(".WEIGHTS") and not now[key] and key != "MODEL.WEIGHTS"]
    refused = left_out + [
        key for key in changed if not key.startswith("TEST.") and key.rpartition(".")[2] not in MAY_CHANGE
    ]
    if refused:
        more = f" (and {len(refused) - 3} more keys)" if len(refused) > 3 else ""
        differences = ", ".join(f"{key} was {then[key]!r} and is {now[key]!r}" for key in refused[:3])
        raise ConfigError(
            f"{path} is of a run with another configuration, {differences}{more}: give the options it was started "
            "with, or another OUTPUT_DIR and the checkpoint as MODEL.WEIGHTS to start anew"
        )
    for key in changed:
        logging.getLogger(__name__).warning("From iteration %d on %s is %r, not %r", done, key, now[key], then[key])


def name_differences(path: str, cfg: CfgNode) -> None:
    """Log where an evaluation's ``MODEL`` is not that which a checkpoint was trained as.

    Args:
        path: the checkpoint, of a run or of weights alone, which do not say.
        cfg: the present configuration.
    """
    try:
        then = dict(_leaves(read_run(path, lazy=True)["training"]["config"]))
    except (CheckpointError, KeyError):
        return
    for key, value in _leaves(plain(cfg)):
        may_change = not key.startswith("MODEL.") or key.rpartition(".")[2] in MAY_CHANGE
        if not may_change and key in then and then[key] != value:
            logging.getLogger(__name__).warning(
                "%s was trained with %s %r, and is evaluated with %r", path, key, then[key], value
            )


def keep_precision(training: Mapping[str, Any], cfg: CfgNode) -> None:
    """Let ``SOLVER.AMP.ENABLED auto`` mean what it meant where the run began, in place: a run keeps its precision.

    Args:
        training: the training state to go on from.
        cfg: the present configuration.
    """
    then = dict(_leaves(training["config"]))
    enabled, dtype = then.get("SOLVER.AMP.ENABLED"), then.get("SOLVER.AMP.DTYPE")
    if cfg.SOLVER.AMP.ENABLED == AUTO and isinstance(enabled, bool) and dtype in [*Precision]:
        cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = enabled, dtype


def plain(cfg: CfgNode) -> dict[str, Any]:
    """A configuration as dicts, lists, texts and numbers, which any program can read from a checkpoint."""
    return {
        key: plain(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
        for key, value in cfg.items()
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def recent_metrics(storage: EventStorage) -> list[tuple[int, str, float, bool]]:
    """What the next metrics but times are computed of: iteration, name, value and whether it is smoothed, by age."""
    hints = storage.smoothing_hints()
    rows = [
        (iteration, name, value, hints[name])
        for name, history in storage.histories().items()
        if name not in TIMES
        for value, iteration in history.values()[-WINDOW:]
    ]
    return sorted(rows, key=lambda row: row[0])


def restore_metrics(storage: EventStorage, rows: list[tuple[int, str, float, bool]], path: Path) -> None:
    """Put back what :func:`recent_metrics` gave; the storage's iteration is then that of the last row.

    Raises:
        CheckpointError: it is something else.
    """
    try:
        for iteration, name, value, smooth in rows:
            storage.iter = int(iteration)
            storage.put_scalar(name, value, smoothing_hint=smooth)
    except (TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"the metrics in {path} cannot be used ({error}): give an older checkpoint") from error


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of this process's random generators, by device type."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(states: list[dict[str, Tensor]], rank: int, processes: int, device: torch.device, path: Path):
    """Put back what :func:`random_state` gave on every process of the run.

    Raises:
        CheckpointError: it is something else.
    """
    if len(states) != processes:
        logging.getLogger(__name__).warning(
            "%s is of %d process(es) and goes on in %d: images come in the same order, but what is drawn while "
            "training is not what it would have been",
            *(path, len(states), processes),
        )
    if rank < len(states):
        try:
            torch.set_rng_state(states[rank]["cpu"])
            if device.type == "cuda" and "cuda" in states[rank]:
                torch.cuda.set_rng_state(states[rank]["cuda"], device)
        except (RuntimeError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"the random generators in {path} cannot be restored ({error}): give an older checkpoint"
            ) from error
