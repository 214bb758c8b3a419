"""Log and seed, before a run."""

import logging
import os
import random
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import torch


def setup_logger(
    output: str | None = None, distributed_rank: int = 0, *, name: str = "d2host", color: bool = True, **_
) -> logging.Logger:
    """Log to the terminal (process 0) and to ``log.txt`` in ``output`` (each process its own); safe to repeat."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    plain = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S")
    existing = {getattr(handler, "destination", None) for handler in logger.handlers}
    if distributed_rank == 0 and "terminal" not in existing:
        _attach(logger, _Terminal(sys.stdout), "terminal", plain)
    if output is not None:
        path = Path(output) if str(output).endswith((".txt", ".log")) else Path(output) / "log.txt"
        if distributed_rank > 0:
            path = path.with_name(f"{path.name}.rank{distributed_rank}")
        if str(path) not in existing:
            path.parent.mkdir(parents=True, exist_ok=True)
            _attach(logger, _LogFile(path, encoding="utf-8"), str(path), plain)
    return logger


class _Terminal(logging.StreamHandler):
    """The terminal; where nobody reads it any more, as after ``head``, the program ends instead of talking on."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what the standard library would print a traceback of."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        super().handleError(record)


class _LogFile(logging.FileHandler):
    """A file that a run does without, saying so, where it cannot be written any more, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Give up the file instead of printing a traceback for every line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        print(f"{self.baseFilename} cannot be written any more ({error.strerror})", file=sys.stderr)


def _attach(logger: logging.Logger, handler: logging.Handler, destination: str, formatter: logging.Formatter) -> None:
    handler.destination = destination
    handler.setFormatter(formatter)
    logger.addHandler(handler)


def seed_all_rng(seed: int | None = None) -> None:
    """Seed numpy, torch and random; None: from the time and process."""
    if seed is None:
        seed = os.getpid() + int(datetime.now().strftime("%S%f")) + int.from_bytes(os.urandom(2), "big")
        logging.getLogger("d2host").info("Using a random seed %d", seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    random.seed(seed)
