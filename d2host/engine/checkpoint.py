"""Checkpoints of a whole run: written whole or not at all.

Files as Detectron2 users know them: ``model_0004999.pth``, ``model_final.pth`` and ``last_checkpoint``, which names
the newest. A checkpoint is written to a temporary file, flushed to disk and renamed, and ``last_checkpoint`` follows
only then: a process killed at any moment leaves the previous checkpoint in place.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from d2host import comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.parallel import unwrap
from d2host.engine.tensors import check_state_dict, load_pickled

POINTER = "last_checkpoint"


class RunCheckpointer:
    """Saves and restores a model with the state of its training.

    Args:
        directory: where checkpoints go.
        keep: how many periodic checkpoints to keep (the final one is always kept); 0: all.
    """

    def __init__(self, directory: str | Path, keep: int = 3) -> None:
        self.directory = Path(directory)
        self.keep = keep

    def save(self, name: str, model: nn.Module, training: dict[str, Any]) -> Path:
        """Write ``name.pth`` with the model's tensors and ``training`` (tensors and plain values); process 0 only.

        Raises:
            CheckpointError: the file cannot be written; what was saved before is untouched.
        """
        path = self.directory / f"{name}.pth"
        if comm.is_main_process():
            content = {"model": unwrap(model).state_dict(), "training": training}
            self._write(path, lambda file: torch.save(content, file))
            self._write(self.directory / POINTER, lambda file: file.write(path.name.encode()))
            self._prune()
            logging.getLogger(__name__).info("Saved %s", path)
        return path

    def _write(self, path: Path, write: Callable[[BinaryIO], Any]) -> None:
        try:
            write_atomically(path, write)
        except CheckpointError as error:
            last = self.last()
            kept = f"the last whole checkpoint is {last}" if last else "there is no earlier checkpoint"
            raise CheckpointError(f"{error}; {kept}") from error

    def _prune(self) -> None:
        periodic = sorted(self.directory.glob("model_[0-9]*.pth"))
        for old in periodic[: -self.keep] if self.keep else []:
            old.unlink()

    def last(self) -> Path | None:
        """The newest whole checkpoint, if there is one."""
        pointer = self.directory / POINTER
        if not pointer.is_file():
            return None
        path = self.directory / pointer.read_text(encoding="utf-8").strip()
        return path if path.is_file() else None

    def require_none(self) -> None:
        """Make sure that no earlier run is overwritten.

        Raises:
            ConfigError: there is a checkpoint of one.
        """
        last = self.last()
        if last is not None:
            raise ConfigError(
                f"{last} is of an earlier run: add --resume to go on with it, or give another OUTPUT_DIR to start anew"
            )


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside its place, flush it to disk and move it there.

    Raises:
        CheckpointError: it cannot be written; what was there before is untouched.
    """
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} could not be written ({error}): free disk space") from error


def load_run(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint of a run into ``model``, strictly, and return its training state.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or of another model.
    """
    content = _read(path)
    if "training" not in content:
        raise CheckpointError(
            f"{path} holds weights but no training state: give it as MODEL.WEIGHTS instead of resuming"
        )
    _load_strictly(model, content["model"], path)
    return content["training"]


def load_weights(path: str | Path, model: nn.Module) -> None:
    """Load the weights of a checkpoint, with or without the training's state, into ``model``, strictly.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or of another model.
    """
    _load_strictly(model, _read(path)["model"], path)


def _read(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content; a bare state dict is taken for its ``model``."""
    content = load_pickled(path)
    return content if isinstance(content, dict) and "model" in content else {"model": content}


def _load_strictly(model: nn.Module, state: Any, path: str | Path) -> None:
    own = model.state_dict()
    differences = describe_mismatch(own, check_state_dict(state, f"checkpoint {path}", own))
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is of another model than the config describes: {differences}; give the config it was "
            "made with, or, of an earlier version of this project, the file as MODEL.WEIGHTS of a new run"
        )
    model.load_state_dict(state)


def describe_mismatch(expected: dict[str, torch.Tensor], given: dict[str, torch.Tensor], limit: int = 4) -> str:
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
