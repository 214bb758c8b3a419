"""Checkpoints of a whole run: written whole or not at all, and found again whatever has happened to them.

Files as Detectron2 users know them: ``model_0004999.pth``, ``model_final.pth`` and ``last_checkpoint``, which names
the newest. A checkpoint is written to a temporary file, flushed to disk and renamed, and ``last_checkpoint`` follows
only then: a process killed at any moment leaves the previous checkpoint in place.
"""

import logging
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from d2host import comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError, ConfigError, OutputError
from d2host.engine.parallel import unwrap

POINTER = "last_checkpoint"
FINAL = "model_final"
TRAINING = {"iteration": int, "optimizer": dict, "scaler": dict, "generators": list, "metrics": list, "config": dict}
LATER = {"metrics": [], "config": {}}  # what checkpoints of earlier versions lack
UNREADABLE = (  # what zip, pickle and torch raise where a file is not what they wrote
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
)


class RunCheckpointer:
    """Saves and finds the checkpoints of a run.

    Args:
        directory: where checkpoints go.
        keep: how many periodic checkpoints to keep (the final one is always kept); 0: all.

    Attributes:
        newest: the checkpoint that this process saved or resumed from last, if any.
    """

    def __init__(self, directory: str | Path, keep: int = 3) -> None:
        self.directory = Path(directory)
        self.keep = keep
        self.newest: Path | None = None

    def save(self, name: str, model: nn.Module, training: dict[str, Any]) -> Path:
        """Write ``name.pth`` with the model's tensors and ``training`` (tensors and plain values); process 0 only.

        Raises:
            CheckpointError: the file cannot be written; what was saved before is untouched.
        """
        path = self.directory / f"{name}.pth"
        if comm.is_main_process():
            content, logger = {"model": unwrap(model).state_dict(), "training": training}, logging.getLogger(__name__)
            try:
                write_atomically(path, lambda file: torch.save(content, file))
            except CheckpointError as error:
                kept = f"the last whole checkpoint is {self.newest}" if self.newest else "there is no earlier one"
                raise CheckpointError(f"{error}; {kept}") from error
            try:
                write_atomically(self.directory / POINTER, lambda file: file.write(path.name.encode()))
            except CheckpointError as error:  # no reason to stop: the newest checkpoint is found without it
                logger.warning("%s", error)
            self._prune(path)
            logger.info("Saved %s", path)
        self.newest = path
        return path

    def _prune(self, saved: Path) -> None:
        """Keep the periodic checkpoints that were written last, whatever their numbers; ``saved`` is one of them."""
        periodic = [path for path in self.directory.glob("model_[0-9]*.pth") if path.is_file()]
        by_age = sorted(periodic, key=lambda path: (path == saved, path.stat().st_mtime_ns, path.name))
        for old in by_age[: -self.keep] if self.keep else []:
            old.unlink(missing_ok=True)

    def last(self) -> Path | None:
        """The newest whole checkpoint, if there is any: the one that ``last_checkpoint`` names, if that can be read.

        Where it cannot, the one of the highest iteration that can; the log says what was skipped, and why.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        logger, skipped = logging.getLogger(__name__), []
        for path in self._candidates():
            try:
                read_run(path, mmap=True)
            except CheckpointError as error:
                logger.warning("Skipped: %s", error)
                skipped.append(error)
                continue
            return path
        if skipped:
            raise CheckpointError(
                f"{self.directory} holds {len(skipped)} checkpoint(s), but none that can be gone on from: give another "
                f"OUTPUT_DIR, or move them away to start anew; the first: {skipped[0]}"
            )
        return None

    def _candidates(self) -> list[Path]:
        """All checkpoints, the most promising first."""
        files, pointer = sorted(self.files(), key=_iteration, reverse=True), self.directory / POINTER
        try:
            pointed = self.directory / (pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else "")
        except (OSError, UnicodeDecodeError, ValueError):
            pointed = self.directory
        if files and pointed not in files:
            logging.getLogger(__name__).warning("%s names no checkpoint: looking for the newest", pointer)
        return sorted(files, key=lambda path: path != pointed)

    def files(self) -> list[Path]:
        """Everything that looks like a checkpoint, whole or not."""
        return [path for path in sorted(self.directory.glob("model_*.pth")) if path.is_file()]

    def require_none(self) -> None:
        """Make sure that no earlier run is overwritten.

        Raises:
            ConfigError: there is a checkpoint of one.
        """
        files = self.files()
        if files:
            raise ConfigError(
                f"{files[-1]} is of an earlier run: add --resume to go on with it, or give another OUTPUT_DIR to start "
                "anew"
            )


def _iteration(path: Path) -> int:
    """The iteration of a checkpoint, without its tensors being read; -1 where it cannot be told."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["training"]["iteration"])
    except UNREADABLE:
        return -1


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file beside its place, flush it to disk and move it there.

    Raises:
        CheckpointError: it cannot be written; what was there before is untouched.
    """
    try:
        with replacing(path, durable=True) as temporary, open(temporary, "wb") as file:
            write(file)
    except OutputError as error:
        raise CheckpointError(str(error)) from error
    except RuntimeError as error:  # of torch's own writer
        raise CheckpointError(f"{path} could not be written ({error}): free disk space") from error


def read_run(path: str | Path, mmap: bool = False) -> dict[str, dict[str, Any]]:
    """The content of a run's checkpoint: ``model``, its tensors, and ``training``, everything else of the run.

    Args:
        mmap: leave tensors on disk until they are looked at.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or no checkpoint of a run.
    """
    content = _read(path, mmap)
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


def _read(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """A checkpoint's content, every byte checked; a bare state dict is taken for its ``model``."""
    try:
        if not Path(path).is_file():
            raise OSError("it is no file")  # a pipe would be waited for
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch itself does not notice a changed byte of a tensor
                if any(member.compress_type for member in archive.infolist()):
                    raise TypeError("it is compressed")
                if damaged := archive.testzip():
                    raise OSError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        content = content if "model" in content else {"model": content}
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content["model"].items()):
            raise TypeError("it holds something else than tensors by name")
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"checkpoint {path} cannot be read ({reason}): give another, or remove it") from error
    return content


def _load_strictly(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    differences = describe_mismatch(model.state_dict(), state)
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is of another model than the config describes: {differences}; give the config it was "
            "made with, or, of an earlier version of this project, the file as MODEL.WEIGHTS of a new run"
        )
    spoilt = [name for name, _ in model.named_parameters() if name in state and not state[name].isfinite().all()]
    if spoilt:
        raise CheckpointError(f"checkpoint {path} holds numbers that are not finite, in {spoilt[0]}: give another")
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
    }
    words = []
    for kind, keys in kinds.items():
        if keys:
            more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
            words.append(f"{len(keys)} {kind} ({', '.join(keys[:limit])}{more})")
    return "; ".join(words)
