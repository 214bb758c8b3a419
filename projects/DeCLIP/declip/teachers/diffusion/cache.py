"""Fused attention maps on disk, one file per image, each whole or not at all."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2host import comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import ConfigError, OutputError

SETTINGS = "settings.json"


class AttentionCache:
    """Maps by image, made with the same settings, in a folder that does not outgrow a limit.

    Maps are kept in half precision. When the folder is full, no more are added: images come in random order, and each
    as often as any other, so that none is worth replacing. A file that cannot be read counts as none.

    Args:
        folder: made if need be.
        settings: what the maps depend on besides the image, JSON-serialisable.
        limit: bytes of all files; processes of a run share what is left of it.

    Raises:
        ConfigError: the folder holds maps of other settings.
        OutputError: it cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = AttentionCache(folder, {"timestep": 45}, limit=10**6)
    ...     cache.put("00ff", torch.eye(2))
    ...     cache.get("00ff", 2)
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float16)
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, object], limit: int) -> None:
        self.folder = Path(folder)
        _claim(self.folder / SETTINGS, settings)
        used = sum(entry.stat().st_size for part in self.folder.glob("??") for entry in os.scandir(part))
        self.left = max(limit - used, 0) // comm.get_world_size()

    def get(self, image: str, tokens: int) -> Tensor | None:
        """The N×N map of an image, by its name; None where there is none of ``tokens`` tokens."""
        try:
            attention = load_file(self._file(image))["attention"]
        except (OSError, SafetensorError, KeyError):
            return None
        return attention if attention.shape == (tokens, tokens) and attention.dtype == torch.float16 else None

    def put(self, image: str, attention: Tensor) -> None:
        """Keep the map of an image, if there is room.

        Raises:
            OutputError: it cannot be written.
        """
        size = 2 * attention.numel() + 256
        if size > self.left:
            if self.left:
                logging.getLogger(__name__).warning("%s is full: further attention maps are not kept", self.folder)
            self.left = 0
            return
        path = self._file(image)
        try:
            with replacing(path) as temporary:
                save_file({"attention": attention.half().cpu().contiguous()}, temporary)
        except SafetensorError as error:
            raise OutputError.of(path, error) from error
        self.left -= size

    def _file(self, image: str) -> Path:
        return self.folder / image[:2] / f"{image}.safetensors"


def _claim(path: Path, settings: Mapping[str, object]) -> None:
    """Write the settings of a new cache, or compare them with those of an old one."""
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differences = [
                f"{name} {found.get(name)}, not {settings.get(name)}"
                for name in {**settings, **found}
                if found.get(name) != settings.get(name)
            ]
        except (ValueError, AttributeError):
            differences = ["they are damaged"]
        if differences:
            raise ConfigError(
                f"{path.parent} (MODEL.DIFFUSION.CACHE) holds attention maps of other settings "
                f"({'; '.join(differences)}): give another folder, or remove this one"
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
