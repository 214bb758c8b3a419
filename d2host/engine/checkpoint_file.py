"""Reading the checkpoint of a run: every byte checked, its parts of the right kinds, fitting the model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d2host.engine.errors import CheckpointError
from d2host.engine.tensors import check_state_dict, load_pickled

TRAINING = {
    **{"iteration": int, "optimizer": dict, "scaler": dict, "generators": list, "metrics": list, "config": dict},
    "places": list,
}
LATER = {"metrics": [], "config": {}, "places": []}  # what checkpoints of earlier versions lack


def peek_iteration(path: Path) -> int:
    """The iteration of a checkpoint, without its tensors being read; -1 where it cannot be told."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return int(content["training"]["iteration"]) if isinstance(content, dict) else -1
    except Exception:  # whatever the bytes make the library do
        return -1


def read_run(path: str | Path, lazy: bool = False) -> dict[str, dict[str, Any]]:
    """The content of a run's checkpoint: ``model``, its tensors, and ``training``, everything else of the run.

    Args:
        lazy: leave tensors on disk until they are looked at.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or no checkpoint of a run.
    """
    content = _read(path, lazy)
    training = content.get("training")
    if training is None:
        raise CheckpointError(
            f"{path} holds weights but no training state: give it as MODEL.WEIGHTS instead of resuming"
        )
    training = {**LATER, **training} if isinstance(training, dict) else {}
    wrong = [name for name, kind in TRAINING.items() if type(training.get(name)) is not kind]
    if wrong or training["iteration"] < 0:
        raise CheckpointError(f"{path} holds no training state that can be used ({', '.join(wrong or ['iteration'])})")
    return {"model": content["model"], "training": training}


def load_run(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint of a run into ``model``, strictly, and return its training state.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or of another model.
    """
    content = read_run(path)
    _load_strictly(model, content["model"], path)
    return content["training"]


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Load the weights of a checkpoint, with or without the training's state, into ``model``, strictly.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or of another model.
    """
    _load_strictly(model, _read(path)["model"], path)


def _read(path: str | Path, lazy: bool = False) -> dict[str, Any]:
    """A checkpoint's content, every byte checked; a bare state dict is taken for its ``model``."""
    content = load_pickled(path, lazy)
    content = content if isinstance(content, dict) and "model" in content else {"model": content}
    state = content["model"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"checkpoint {path} holds no state dict of tensors: give another, or remove it")
    return content


def _load_strictly(model: nn.Module, state: Any, path: str | Path) -> None:
    own = model.state_dict()
    differences = describe_mismatch(own, check_state_dict(state, f"checkpoint {path}", own))
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is of another model than the config describes: {differences}; give the config it was "
            "made with, or, of an earlier version of this project, the file as MODEL.WEIGHTS of a new run"
        )
    model.load_state_dict(state)


def describe_mismatch(expected: dict[str, Tensor], given: dict[str, Tensor], limit: int = 4) -> str:
    """What keeps one state dict from fitting another, in words; empty where it fits."""
    kinds = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of wrong shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in given and given[key].shape != tensor.shape
        ],
        "of wrong kind": [
            f"{key} {given[key].dtype} instead of {tensor.dtype}"
            for key, tensor in expected.items()
            if key in given and given[key].is_floating_point() != tensor.is_floating_point()
        ],
    }
    words = []
    for kind, keys in kinds.items():
        if keys:
            more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
            words.append(f"{len(keys)} {kind} ({', '.join(keys[:limit])}{more})")
    return "; ".join(words)
