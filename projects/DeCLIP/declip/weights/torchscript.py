"""Tensors of a TorchScript archive (OpenAI's CLIP files) without running any of its code.

An archive is a zip: ``data.pkl`` describes the module as a tree of objects, ``data/<key>`` hold the bytes of its
storages. Only that description is read, by an unpickler that knows tensors and nothing else.
"""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from d2host.engine.errors import CheckpointError, in_brief
from d2host.engine.tensors import check_archive

STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a module's code beside its data."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("code" in PurePosixPath(name).parts[1:-1] for name in archive.namelist())
    except Exception:  # whatever the bytes make the library do: other readers say what is wrong
        return False


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """All tensors of an archive's module by their dotted names; a module that has several names keeps the first.

    Raises:
        CheckpointError: the archive is damaged, larger inside than outside, or describes anything but tensors,
            containers and plain values.
    """
    path = Path(path)
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            description = next(name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl")
            with archive.open(description) as file:
                module = _TensorUnpickler(file, archive, str(PurePosixPath(description).parent)).load()
    except Exception as error:  # whatever the bytes make the unpickler do
        raise CheckpointError(
            f"{path} cannot be read ({in_brief(error)}): it is damaged or holds more than tensors; get it again"
        ) from error
    return dict(_tensors(module))


class _Module:
    """Stands for any class of the archive: an object with attributes and no behaviour."""

    attributes: dict[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, file, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module.startswith("__torch__"):
            return _Module
        if module == "torch.jit._pickle":
            return lambda values, *_: values
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"'{kind}' is no storage")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype, count=count)
        return self._storages[key]


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors below a module, with their names."""
    waiting, seen = [("", module)], set()
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, Tensor):
            yield prefix, value
        elif isinstance(value, _Module) and id(value) not in seen:
            seen.add(id(value))
            inner = [(f"{prefix}.{name}" if prefix else name, each) for name, each in value.attributes.items()]
            waiting.extend(reversed(inner))
