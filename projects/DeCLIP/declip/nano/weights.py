"""The nano world's own weights, shipped with the package and loaded by name."""

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"
SHIPPED = ("nano-clip", "nano-declip", "nano-vfm")


def shipped_weights(name: str) -> Path | None:
    """The file of one of :data:`SHIPPED`; None for any other name."""
    return FOLDER / f"{name}.safetensors" if name in SHIPPED else None
