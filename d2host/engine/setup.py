"""What happens before a run: device, logs, seed."""

import torch

from d2host import comm, default_setup, setup_logger
from d2host.engine.errors import ConfigError


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


def setup_run(cfg, args) -> None:
    """The host's set-up (output directory, ``log.txt``, ``config.yaml``, seed) with the project's own loggers."""
    default_setup(cfg, args)
    for name in ("declip", "catseg"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
