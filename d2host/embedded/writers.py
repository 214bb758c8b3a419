"""Where metrics go: a JSON line per period, TensorBoard, and a line for people."""

import datetime
import json
import logging
import math
import os
import time
from pathlib import Path

import torch


def _current_storage():
    """The open storage of the host in use (this module serves both hosts)."""
    from d2host import get_event_storage

    return get_event_storage()


class JSONWriter:
    """One JSON object per line and iteration; a number that is not finite is written as ``null``.

    Args:
        json_file: path, appended to: nothing is written of iterations up to that of its last line.
        window_size: iterations that smoothable scalars are taken the median over.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._path = Path(json_file)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._window_size = window_size
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        self._last_write = json.loads(lines[-1])["iteration"] if lines else -1

    def write(self) -> None:
        """Write what is new since the last call, down to the disk."""
        by_iteration: dict[int, dict[str, float | None]] = {}
        latest = _current_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                by_iteration.setdefault(iteration, {})[name] = value if math.isfinite(value) else None
        if not by_iteration:
            return
        with open(self._path, "a", encoding="utf-8") as file:
            for iteration, scalars in sorted(by_iteration.items()):
                file.write(json.dumps({**scalars, "iteration": iteration}, sort_keys=True, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._last_write = max(by_iteration)

    def close(self) -> None:
        """Nothing to close."""


class TensorboardXWriter:
    """Scalars for TensorBoard.

    Args:
        log_dir: directory of the event file.
        window_size: see :class:`JSONWriter`.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir, **kwargs)
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        """Write what is new since the last call."""
        newest = self._last_write
        for name, (value, iteration) in _current_storage().latest_with_smoothing_hint(self._window_size).items():
            if iteration > self._last_write:
                self._writer.add_scalar(name, value, iteration)
                newest = max(newest, iteration)
        self._last_write = newest
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class CommonMetricPrinter:
    """A log line with losses, speed, learning rate, memory and the time that is left.

    Args:
        max_iter: the last iteration, for the estimate.
        window_size: iterations that the printed numbers are taken over.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("d2host.metrics")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last: tuple[int, float] | None = None

    def write(self) -> None:
        """Log the current state."""
        storage = _current_storage()
        iteration = storage.iter
        if iteration == self._max_iter:
            return
        histories = storage.histories()
        parts = [f"eta: {self._eta(iteration)}", f"iter: {iteration}"]
        for name, history in histories.items():
            if "loss" in name:
                parts.append(f"{name}: {history.median(self._window_size):.4g}")
        for name in ("time", "data_time"):
            if name in histories:
                parts.append(f"{name}: {histories[name].avg(self._window_size):.4f}")
        if "lr" in histories:
            parts.append(f"lr: {histories['lr'].latest():.5g}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info("  ".join(parts))

    def _eta(self, iteration: int) -> str:
        """Time left at the pace since the last call."""
        now, last = time.perf_counter(), self._last
        self._last = (iteration, now)
        if self._max_iter is None or last is None or iteration <= last[0]:
            return "?"
        pace = (now - last[1]) / (iteration - last[0])
        return str(datetime.timedelta(seconds=int(pace * (self._max_iter - iteration - 1))))

    def close(self) -> None:
        """Nothing to close."""
