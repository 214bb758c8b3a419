"""Talking between the processes of one run; every function also works in a single process."""

from typing import Any

import torch
import torch.distributed as dist

_LOCAL_PROCESS_GROUPS: list = []  # the group of this process's machine, set once per process at launch


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Processes in the run."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """This process's number in the run."""
    return dist.get_rank() if _initialized() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Group the processes of each machine; called once in every process, after the run's group exists."""
    assert not _LOCAL_PROCESS_GROUPS, "the local process group exists already"
    assert get_world_size() % num_workers_per_machine == 0
    machine = get_rank() // num_workers_per_machine
    for index in range(get_world_size() // num_workers_per_machine):
        ranks = range(index * num_workers_per_machine, (index + 1) * num_workers_per_machine)
        group = dist.new_group(list(ranks))
        if index == machine:
            _LOCAL_PROCESS_GROUPS.append(group)


def get_local_rank() -> int:
    """This process's number on its machine."""
    if not _initialized():
        return 0
    assert _LOCAL_PROCESS_GROUPS, "the local process group is missing: start the run with launch()"
    return dist.get_rank(group=_LOCAL_PROCESS_GROUPS[0])


def get_local_size() -> int:
    """Processes on this machine."""
    if not _initialized():
        return 1
    assert _LOCAL_PROCESS_GROUPS, "the local process group is missing: start the run with launch()"
    return dist.get_world_size(group=_LOCAL_PROCESS_GROUPS[0])


def is_main_process() -> bool:
    """Whether this is process 0."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait for all processes."""
    if get_world_size() > 1:
        dist.barrier()


def all_gather(data: Any, group=None) -> list[Any]:
    """Every process's (picklable) ``data``, by rank."""
    if get_world_size() == 1:
        return [data]
    gathered = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group=None) -> list[Any]:
    """Every process's (picklable) ``data`` on process ``dst``; an empty list elsewhere."""
    if get_world_size() == 1:
        return [data]
    gathered = [None] * dist.get_world_size(group) if get_rank() == dst else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered or []


def shared_random_seed() -> int:
    """A random number that is the same in all processes."""
    return all_gather(int(torch.randint(2**31, ()).item()))[0]


def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Scalars summed (or averaged) over the processes; complete on process 0."""
    world_size = get_world_size()
    if world_size == 1:
        return input_dict
    names = sorted(input_dict)
    values = torch.stack([input_dict[name].detach() for name in names])
    dist.reduce(values, dst=0)
    if get_rank() == 0 and average:
        values /= world_size
    return dict(zip(names, values, strict=True))
