"""Tensors of a TorchScript archive (OpenAI's CLIP files) without running any of its code.

An archive is a zip: ``data.pkl`` describes the module as a tree of objects, ``data/<key>`` hold the bytes of its
storages. Only that description is read, by an unpickler that knows tensors and nothing else.
"""

import pickle
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

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
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("code" in PurePosixPath(name).parts for name in archive.namelist())


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """All tensors of an archive's module by their dotted names.

    Raises:
        pickle.UnpicklingError: the archive describes anything but tensors, containers and plain values.
        OSError, KeyError, RuntimeError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        description = next(name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl")
        with archive.open(description) as file:
            module = _TensorUnpickler(file, archive, str(PurePosixPath(description).parent)).load()
    return dict(_tensors(module))


class _Module:
    """Stands for any class of the archive: an object with attributes and no behaviour."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, file, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

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
        content = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
        return torch.frombuffer(content, dtype=dtype, count=count)


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def _tensors(value: Any, prefix: str = ""):
    """Tensors below a module, with their names."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, _Module):
        for name, attribute in value.attributes.items():
            yield from _tensors(attribute, f"{prefix}.{name}" if prefix else name)
