"""Hooks of the project's trainings, beyond the host's."""

import json
import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from d2host import HookBase, comm
from d2host.engine.atomic import replacing
from d2host.engine.checkpoint import FINAL
from d2host.engine.endings import Terminated
from d2host.engine.errors import OutputError
from d2host.engine.parallel import average_over_processes


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


class TerminationHook(HookBase):
    """Ends a training that is to be terminated (SIGTERM) after the step it is in, with its state saved.

    Whichever process the signal reaches, all end after the same step. Registered right after :class:`CheckpointHook`:
    the run that goes on redoes what follows a checkpoint, such as an evaluation.
    """

    def __init__(self) -> None:
        self._asked, self._former = False, None

    def before_train(self) -> None:
        """From now on, a termination waits for the end of a step."""
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._note)

    def after_step(self) -> None:
        """Save and end, if a process was asked to.

        Raises:
            Terminated: one was.
        """
        trainer = self.trainer
        if trainer.iter + 1 == trainer.max_iter:  # all is saved, so what follows may be ended at any moment
            self.after_train()
            if self._asked:
                raise Terminated(f"after the last iteration, whose state is in {trainer.options.output_dir}")
            return
        asked = torch.tensor(float(self._asked), device=trainer.device)
        if average_over_processes({"asked": asked})["asked"]:
            path = trainer.save(f"model_{trainer.iter:07d}")
            comm.synchronize()  # nobody leaves before process 0 has written it
            raise Terminated(f"the state after iteration {trainer.iter} is saved as {path}; go on with --resume")

    def after_train(self) -> None:
        """A termination takes effect at once, as before the training."""
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
            self._former = None

    def _note(self, number, frame) -> None:
        self._asked = True


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
