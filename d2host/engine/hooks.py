"""Hooks of the project's trainings, beyond the host's."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2host import HookBase
from d2host.engine.atomic import replacing
from d2host.engine.checkpoint import FINAL
from d2host.engine.errors import OutputError


class CheckpointHook(HookBase):
    """Saves the trainer's state every ``period`` iterations (0: never) and after the last one, then what goes with it.

    Args:
        period: iterations between checkpoints.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    def after_step(self) -> None:
        """Save when a period is over, or as ``model_final`` at the end."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self.trainer.save(FINAL)
        elif self.period > 0 and done % self.period == 0:
            self.trainer.save(f"model_{self.trainer.iter:07d}")
        else:
            return
        self.trainer.export_beside()


class MetricsHook(HookBase):
    """Has writers of the host write every now and then, after each evaluation and at the end.

    Args:
        folder: where they write, for messages.
        writers: with ``write`` and ``close``.
        periods: of iterations, after each of which they write; 0: none.
    """

    def __init__(self, folder: str | Path, writers: Sequence[Any], periods: Sequence[int]) -> None:
        self.folder, self.writers, self.periods = folder, writers, [period for period in periods if period]
        self._written = -1  # the iteration of the last time

    def after_step(self) -> None:
        """Write when a period is over, or training."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or any(done % period == 0 for period in self.periods):
            self._write()

    def after_train(self) -> None:
        """Write what is left and close; a training that has failed keeps its own reason."""
        try:
            self._write()
        except OutputError as error:
            if self.trainer.iter >= self.trainer.max_iter:
                raise
            logging.getLogger(__name__).warning("%s", error)
        for writer in self.writers:
            writer.close()

    def written_before(self, iteration: int) -> int:
        """The iterations whose metrics are written once ``iteration`` begins; those from there on are still to be."""
        return max((iteration // period * period for period in self.periods), default=0)

    def _write(self) -> None:
        if self._written == self.trainer.iter:  # Detectron2's printer cannot be asked twice
            return
        self._written = self.trainer.iter
        try:
            for writer in self.writers:
                writer.write()
        except OSError as error:
            raise OutputError.of(f"the metrics in {self.folder}", error) from error


def forget_metrics_from(path: str | Path, iteration: int) -> None:
    """Drop the lines of a ``metrics.json`` from ``iteration`` on: a resumed run writes them again.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["iteration"] < iteration:
                kept.append(line)
        except (json.JSONDecodeError, TypeError, KeyError):  # a line cut short by a kill
            continue
    with replacing(path, durable=True) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
