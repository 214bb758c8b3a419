"""Starting a run in several processes."""

import socket
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2host.embedded import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run ``main_func(*args)`` in ``num_machines * num_gpus_per_machine`` processes (in this one if that is 1).

    Processes talk by NCCL where there are GPUs, else by gloo. ``dist_url`` 'auto' picks a free port.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size == 1:
        main_func(*args)
        return
    if dist_url in (None, "auto"):
        assert num_machines == 1, "dist_url='auto' works on one machine only"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            dist_url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    mp.start_processes(
        _run,
        (main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        nprocs=num_gpus_per_machine,
        start_method="spawn",
    )


def _run(local_rank, main_func, world_size, per_machine, machine_rank, dist_url, args, timeout) -> None:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        assert per_machine <= torch.cuda.device_count(), (
            f"{per_machine} GPUs asked for, {torch.cuda.device_count()} here"
        )
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if has_gpu else "gloo", dist_url, timeout, world_size, machine_rank * per_machine + local_rank
    )
    try:
        comm.create_local_process_group(per_machine)
        comm.synchronize()
        main_func(*args)
    finally:
        dist.destroy_process_group()
