"""What happens before a run: device, logs, seed."""

import torch

from d2host import comm, default_setup, setup_logger
from d2host.engine.errors import ConfigError


def resolve_device(device: str) -> str:
    """``auto`` → ``cuda`` where there is a GPU, else ``cpu``; anything else unchanged.

    >>> resolve_device("gpu")
    Traceback (most recent call last):
    d2host.engine.errors.ConfigError: device 'gpu' is not on this machine: set MODEL.DEVICE or --device to auto, ...

    Raises:
        ConfigError: there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).item()  # "meta" makes tensors, too, but none that hold anything
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ConfigError(
            f"device '{device}' is not on this machine: set MODEL.DEVICE or --device to auto, cpu, or one of its "
            f"{torch.cuda.device_count()} GPUs"
        ) from error
    return device


def setup_run(cfg, args) -> None:
    """The host's set-up (output directory, ``log.txt``, ``config.yaml``, seed) with the project's own loggers."""
    default_setup(cfg, args)
    for name in ("declip", "catseg"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
