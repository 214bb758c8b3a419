"""Log, seed, and everything else that happens before a run."""

import logging
import os
import random
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from d2host.embedded import comm
from d2host.resolve import resolve_host

LOGGERS = ("d2host", "declip", "catseg", "fvcore")


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
            _attach(logger, logging.FileHandler(path, encoding="utf-8"), str(path), plain)
    return logger


class _Terminal(logging.StreamHandler):
    """The terminal; where nobody reads it any more, as after ``head``, the program ends instead of talking on."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what the standard library would print a traceback of."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        super().handleError(record)


def _attach(logger: logging.Logger, handler: logging.Handler, destination: str, formatter: logging.Formatter) -> None:
    handler.destination = destination
    handler.setFormatter(formatter)
    logger.addHandler(handler)


def default_setup(cfg, args) -> None:
    """Prepare a run: output directory, log (its first line names the host), ``config.yaml``, seed."""
    rank = comm.get_rank()
    if comm.is_main_process():
        Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    for name in LOGGERS:
        setup_logger(cfg.OUTPUT_DIR, rank, name=name)
    logger = logging.getLogger("d2host")
    logger.info(str(resolve_host()))
    logger.info("%d process(es), torch %s", comm.get_world_size(), torch.__version__)
    logger.info("Arguments: %s", args)
    if comm.is_main_process():
        path = Path(cfg.OUTPUT_DIR) / "config.yaml"
        path.write_text(cfg.dump(), encoding="utf-8")
        logger.info("The full configuration is in %s", path)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


def seed_all_rng(seed: int | None = None) -> None:
    """Seed numpy, torch and random; None: from the time and process."""
    if seed is None:
        seed = os.getpid() + int(datetime.now().strftime("%S%f")) + int.from_bytes(os.urandom(2), "big")
        logging.getLogger("d2host").info("Using a random seed %d", seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    random.seed(seed)
