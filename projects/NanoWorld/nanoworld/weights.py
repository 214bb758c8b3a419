"""The nano world's own weights, shipped with the package and loaded by name."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"
SHIPPED = ("nano-clip", "nano-declip", "nano-vfm")
DIFFUSION = "nano-diffusion"  # a folder, as diffusers lays it out


def shipped_weights(name: str) -> Path | None:
    """The file of one of :data:`SHIPPED`; None for any other name."""
    return FOLDER / f"{name}.safetensors" if name in SHIPPED else None


def shipped_diffusion(name: str) -> Path | None:
    """The folder of :data:`DIFFUSION`; None for any other name."""
    return FOLDER / name if name == DIFFUSION else None


def weights_version(*more: Path) -> str:
    """Eight hexadecimal digits that stand for the contents of all shipped weights, and of more files."""
    files = (*(FOLDER / f"{name}.safetensors" for name in SHIPPED), *sorted((FOLDER / DIFFUSION).rglob("*.*")), *more)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
