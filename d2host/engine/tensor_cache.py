"""What is computed of images again and again, on disk: one file per image, each whole or not at all."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2host import comm
from d2host.engine.atomic import replacing
from d2host.engine.errors import ConfigError, OutputError

SETTINGS = "settings.json"
HEADER = 256  # bytes of a file beside its tensors, about


class TensorCache:
    """Tensors by image, made with the same settings, in a folder that does not outgrow a limit.

    They are kept in half precision. When the folder is full, no more are added: images come in random order, and each
    as often as any other, so that none is worth replacing. A file that cannot be read counts as none.

    Args:
        folder: made if need be.
        settings: what the tensors depend on besides the image, JSON-serialisable.
        limit: bytes of all files; processes of a run share what is left of it when the run begins, so that runs at the
            same time may exceed it together.
        key: the configuration key that names the folder, for errors.

    Raises:
        ConfigError: the folder holds tensors of other settings.
        OutputError: it cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = TensorCache(folder, {"timestep": 45}, limit=10**6, key="MODEL.DIFFUSION.CACHE")
    ...     cache.put("00ff", {"attention": torch.eye(2)})
    ...     cache.get("00ff", {"attention": (2, 2)})
    {'attention': tensor([[1., 0.],
            [0., 1.]], dtype=torch.float16)}
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, object], limit: int, key: str) -> None:
        self.folder = Path(folder)
        _claim(self.folder / SETTINGS, settings, key)
        used = 0
        for path in self.folder.glob("??/*.safetensors"):
            with suppress(FileNotFoundError):  # another run is replacing it
                used += path.stat().st_size
        self.left = max(limit - used, 0) // comm.get_world_size()

    def get(self, image: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor] | None:
        """The tensors of an image, by its name; None where there are none of these names and shapes."""
        try:
            tensors = load_file(self._file(image))
        except (OSError, SafetensorError):
            return None
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor.dtype == torch.float16}
        return tensors if found == {name: tuple(shape) for name, shape in shapes.items()} else None

    def put(self, image: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep the tensors of an image, if there is room.

        Raises:
            OutputError: they cannot be written.
        """
        size = sum(2 * tensor.numel() + HEADER for tensor in tensors.values())
        if size > self.left:
            if self.left:
                logging.getLogger(__name__).warning("%s is full: nothing further is kept there", self.folder)
            self.left = 0
            return
        path = self._file(image)
        try:
            with replacing(path) as temporary:
                save_file({name: each.detach().half().cpu().contiguous() for name, each in tensors.items()}, temporary)
        except SafetensorError as error:
            raise OutputError.of(path, error) from error
        self.left -= size

    def _file(self, image: str) -> Path:
        return self.folder / image[:2] / f"{image}.safetensors"


def _claim(path: Path, settings: Mapping[str, object], key: str) -> None:
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
                f"{path.parent} ({key}) was filled with other settings ({'; '.join(differences)}): give another "
                "folder, or remove this one"
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
