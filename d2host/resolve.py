"""Which host runs the project: Detectron2 where it is installed, the embedded host where it is not."""

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from d2host.engine.errors import ConfigError

VARIABLE = "D2HOST"
CHOICES = ("auto", "detectron2", "embedded")


@dataclass(frozen=True)
class Host:
    """The host in use.

    Attributes:
        name: ``detectron2`` or ``embedded``.
        version: of Detectron2; empty for the embedded host.
        path: where Detectron2 lies; empty for the embedded host.
    """

    name: str
    version: str = ""
    path: str = ""

    def __str__(self) -> str:
        details = f" {self.version} ({self.path})" if self.version else ""
        return f"host: {self.name}{details}"


@cache
def resolve_host() -> Host:
    """Decide by the environment variable ``D2HOST`` (auto, detectron2 or embedded; default auto), once per process.

    ``auto`` takes Detectron2 unless it cannot be found; a bare checkout in the working directory, which Python sees
    as a namespace package, does not count. A Detectron2 that is present but broken raises its own error. Nothing is
    written to the environment: :func:`d2host.engine.distributed.launch` tells the processes that it starts.

    Raises:
        ConfigError: the variable has another value, or ``detectron2`` is asked for and not installed.
    """
    choice = os.environ.get(VARIABLE, "auto").strip().lower() or "auto"
    if choice not in CHOICES:
        raise ConfigError(f"{VARIABLE}='{choice}' is not a host: set it to one of {', '.join(CHOICES)}, or unset it")
    spec = None if choice == "embedded" else importlib.util.find_spec("detectron2")
    installed = spec is not None and spec.origin is not None
    if choice == "detectron2" and not installed:
        raise ConfigError(
            f"{VARIABLE}=detectron2, but detectron2 is not installed here: install it, or unset {VARIABLE}"
        )
    if not installed:
        return Host("embedded")
    import detectron2

    return Host("detectron2", detectron2.__version__, str(Path(spec.origin).parent))


def require_host(name: str) -> None:
    """Make sure that this process runs on the host ``name``, that of the process which started it.

    Raises:
        ConfigError: it resolves another one.
    """
    if resolve_host().name != name:
        raise ConfigError(
            f"this process resolves the host '{resolve_host().name}', the one that started it '{name}': set "
            f"{VARIABLE}={name} for both"
        )
