"""Batches on their way from a loading process: all tensors of one in a single block of shared memory.

torch hands every tensor over by itself, for which the reader asks the process that loads, and waits until that has
time. A block is asked for once.
"""

import io
import math
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: of a cache line


class _Packer(pickle.Pickler):
    """Pickles all but tensors, which it collects and numbers."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not Tensor or value.device.type != "cpu" or value.layout is not torch.strided:
            return None
        self.tensors.append(value.detach())
        return len(self.tensors) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self.tensors[number]


def pack(batch: Any) -> bytes:
    """A batch as bytes for another process of this machine, which has to read them while this one lives.

    Raises:
        OSError, RuntimeError: there is no shared memory, or no file handle, for it.

    >>> batch = unpack(pack([{"image": torch.ones(3, 2, 2, dtype=torch.uint8), "file_name": "a.jpg"}]))
    >>> batch[0]["image"].shape, batch[0]["file_name"]
    (torch.Size([3, 2, 2]), 'a.jpg')
    """
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(batch)
    places, end = [], 0
    for tensor in packer.tensors:
        places.append((end, tensor.dtype, tensor.shape))
        end += math.ceil(tensor.nbytes / ALIGNMENT) * ALIGNMENT
    block = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(end)) if end else None
    for place, tensor in zip(places, packer.tensors, strict=True):
        _at(block, *place).copy_(tensor)
    return bytes(ForkingPickler.dumps((file.getvalue(), places, block)))


def unpack(packed: bytes) -> Any:
    """The batch that :func:`pack` took; its tensors lie in one block, which lives as long as any of them."""
    content, places, block = pickle.loads(packed)
    return _Unpacker(io.BytesIO(content), [_at(block, *place) for place in places]).load()


def _at(block: Tensor | None, start: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    """The tensor that lies in a block from byte ``start`` on."""
    size = shape.numel() * dtype.itemsize
    return block[start : start + size].view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
