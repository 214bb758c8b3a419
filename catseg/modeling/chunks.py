"""How much of a large tensor is worked on at once: what stays in a CPU's cache, or what fills a GPU."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CACHED = 884_736  # numbers: 3.4 MB in float32, 6,912 tokens of 128 channels
STREAMED = 2**22  # numbers: 17 MB in float32
ALIVE = 16  # tensors of a chunk's size, float32, that a stage holds at a time, with its wider inner layers
STORED = 100  # tensors of the tokens' size, float32, that the backward pass of the whole aggregation needs


class Chunks(NamedTuple):
    """How tokens go through the stages of an aggregation: in slices that suit the device.

    Attributes:
        tokens: that a slice may have, at least one class or position of every image.
        recompute: with gradients, compute each slice again in the backward pass instead of storing its activations.
        overwrite: without gradients, write results over their slices, so that no second copy exists.
    """

    tokens: int
    recompute: bool = False
    overwrite: bool = False

    def run(self, stage: Callable[[Tensor], Tensor], x: Tensor, dim: int) -> Tensor:
        """``stage`` of slices of tokens ...×C along ``dim``, joined."""
        slices = x.split(max(self.tokens * x.shape[dim] // x[..., 0].numel(), 1), dim)
        if torch.is_grad_enabled() and self.recompute:
            outputs = [checkpoint(stage, piece, use_reentrant=False) for piece in slices]
        elif not self.overwrite or len(slices) == 1:
            outputs = [stage(piece) for piece in slices]
        else:
            outputs = []
            for piece in slices:
                output = stage(piece)
                outputs.append(piece.copy_(output) if output.shape == piece.shape else output)
            if outputs[0].shape == slices[0].shape:
                return x
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim)


def numbers_at_once(device: torch.device, on_cpu: int = STREAMED) -> int:
    """How many numbers the input of a stage should have.

    On a CPU as many as :data:`STREAMED`, or, where a stage multiplies matrices, :data:`CACHED`, so that a chunk and
    what becomes of it stay in the cache. A GPU wants few launches of large kernels: half of its free memory is filled.
    Other devices are not bounded.
    """
    if device.type == "cpu":
        return on_cpu
    if device.type != "cuda":
        return sys.maxsize
    return free_memory(device) // 2 // (4 * ALIVE)


def needs_recomputation(device: torch.device, numbers: int) -> bool:
    """Whether the activations of an aggregation of so many numbers are better computed twice than stored.

    On a CPU always: it takes a seventh longer there, and what is stored otherwise grows with classes and batch.
    """
    if device.type == "cuda":
        return numbers * 4 * STORED > free_memory(device) // 2
    return device.type == "cpu"


def free_memory(device: torch.device) -> int:
    """What a CUDA device can still give this process, bytes: unused memory, and the allocator's own reserve."""
    unused, _ = torch.cuda.mem_get_info(device)
    return unused + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
