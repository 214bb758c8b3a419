"""One model on several processes: wrapped, unwrapped, and numbers averaged over them."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d2host import comm


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


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model itself.

    >>> unwrap(nn.Identity())
    Identity()
    """
    return model.module if isinstance(model, DistributedDataParallel) else model
