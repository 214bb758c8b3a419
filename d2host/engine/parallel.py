"""One model on several processes: wrapped, unwrapped, numbers averaged over them, and what if one is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d2host import comm
from d2host.engine.errors import LostProcessError


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model for data parallelism where there are several processes.

    Parameters without gradient are looked for: which ones have none depends on context type and vocabulary size.
    """
    if comm.get_world_size() == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(
        model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def average_over_processes(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars averaged over all processes, on every process."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if comm.get_world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= comm.get_world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of each process's tensor, on every process, through which gradients flow.

    So a loss of a whole batch, such as one of its second moment, is the same however many processes share the batch:
    where each computes all of it, the mean of their gradients is that of a single process.
    """
    return x if comm.get_world_size() == 1 else _Sum.apply(x)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


@contextmanager
def losing_no_process() -> Iterator[None]:
    """Within, that another process has ended is no defect of this one.

    Raises:
        LostProcessError: a connection to another process broke.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no type of its own for a broken connection
        if isinstance(error, dist.DistError) or "/gloo/transport/" in str(error):
            raise LostProcessError("another process of the run has ended: see what it said") from error
        raise


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model itself.

    >>> unwrap(nn.Identity())
    Identity()
    """
    return model.module if isinstance(model, DistributedDataParallel) else model
