"""Checkpoints of a whole run: written whole or not at all, and found again whatever has happened to them.

Files as Detectron2 users know them: ``model_0004999.pth``, ``model_final.pth`` and ``last_checkpoint``, which names
the newest. A checkpoint is written to a temporary file, flushed to disk and renamed, and ``last_checkpoint`` follows
only then: a process killed at any moment leaves the previous checkpoint in place.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from d2host import CfgNode, comm
from d2host.engine.atomic import replacing
from d2host.engine.checkpoint_file import peek_iteration, read_run
from d2host.engine.errors import CheckpointError, ConfigError, OutputError
from d2host.engine.parallel import unwrap

POINTER = "last_checkpoint"
FINAL = "model_final"


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
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                logging.getLogger(__name__).warning("%s could not be removed (%s)", old, error.strerror)

    def last(self) -> Path | None:
        """The newest whole checkpoint, if there is any: the one that ``last_checkpoint`` names, if that can be read.

        Where it cannot, the one of the highest iteration that can; the log says what was skipped, and why.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        logger, skipped = logging.getLogger(__name__), []
        for path in self._candidates():
            try:
                read_run(path, lazy=True)
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
        files, pointer = sorted(self.files(), key=peek_iteration, reverse=True), self.directory / POINTER
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


def checkpoint_to_evaluate(cfg: CfgNode) -> str:
    """What an evaluation is of: ``MODEL.WEIGHTS``, else the newest checkpoint of ``OUTPUT_DIR``; empty without any.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    return cfg.MODEL.WEIGHTS or str(RunCheckpointer(cfg.OUTPUT_DIR).last() or "")


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
    except RuntimeError as error:  # torch's own writer says less than the system, which it has just heard
        refused = error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error))
        raise CheckpointError(str(OutputError.of(path, refused))) from error
