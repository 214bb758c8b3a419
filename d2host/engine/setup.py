"""What happens before a run: device, logs, seed."""

import torch

from d2host import comm, default_setup, setup_logger


def resolve_device(device: str) -> str:
    """``auto`` → ``cuda`` where there is a GPU, else ``cpu``; anything else unchanged."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def setup_run(cfg, args) -> None:
    """The host's set-up (output directory, ``log.txt``, ``config.yaml``, seed) with the project's own loggers."""
    default_setup(cfg, args)
    for name in ("declip", "catseg"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
