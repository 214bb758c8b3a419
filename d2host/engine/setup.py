"""What happens before a run: device, logs, config.yaml, seed."""

import argparse
import logging
from pathlib import Path

import torch

from d2host import HOST, CfgNode, comm, seed_all_rng, setup_logger
from d2host.engine.atomic import replacing
from d2host.engine.errors import ConfigError, OutputError

LOGGERS = ("d2host", "declip", "catseg", "fvit", "nanoworld", "fvcore", "detectron2")  # whose messages are shown


def resolve_device(device: str) -> str:
    """A device that is there and can compute; ``auto``: ``cuda`` where there is a GPU, else ``cpu``.

    >>> resolve_device("cpu")
    'cpu'

    Raises:
        ConfigError: it is not there, or is none, or one GPU is named for several processes.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()  # what has no backend, or no data as ``meta``, fails here
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError) as error:  # as torch says it, by device
        there = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"device '{device}' (MODEL.DEVICE, --device) is not here: choose {', '.join(there)}"
        ) from error
    if found.index is not None and found.type != "cpu" and comm.get_world_size() > 1:
        raise ConfigError(f"device '{device}' is one for {comm.get_world_size()} processes: say '{found.type}'")
    return found.type if found.type == "cpu" else device


def setup_logs(output_dir: str | Path, args: argparse.Namespace) -> None:
    """Log to the terminal and to ``log.txt`` in ``output_dir``, whose first line names the host.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        for name in LOGGERS:
            setup_logger(str(output_dir), distributed_rank=comm.get_rank(), name=name)
    except OSError as error:
        raise OutputError.of(Path(output_dir) / "log.txt", error) from error
    logger = logging.getLogger("d2host")
    logger.info(str(HOST))
    logger.info("%d process(es), torch %s", comm.get_world_size(), torch.__version__)
    logger.info("Arguments: %s", args)


def write_config(cfg: CfgNode) -> None:
    """Write the whole configuration as ``config.yaml``.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(cfg.OUTPUT_DIR) / "config.yaml"
    with replacing(path, durable=True) as temporary:
        temporary.write_text(cfg.dump(), encoding="utf-8")
    logging.getLogger("d2host").info("The full configuration is in %s", path)


def seed_run(cfg: CfgNode) -> None:
    """Seed every generator by ``SEED`` (below 0: another each time) and the number of this process."""
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
