"""Starting a run: in this process, in several that we start, or in one that torchrun started."""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from d2host import comm
from d2host.engine.errors import ConfigError


def launch(main: Callable, num_gpus: int = 1, args: tuple = ()) -> None:
    """Call ``main(*args)`` once per process of the run.

    Under torchrun (``RANK`` and ``WORLD_SIZE`` are set) this process is one of the run's. Otherwise ``num_gpus``
    processes are started on this machine, or none if that is 1. Processes talk by NCCL where there are GPUs, by gloo
    on CPUs (where "GPU" then means a process).

    Raises:
        ConfigError: more GPUs are asked for than there are.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        per_machine = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        _run(int(os.environ.get("LOCAL_RANK", 0)), per_machine, {}, main, args)
        return
    if num_gpus < 1 or (torch.cuda.is_available() and num_gpus > torch.cuda.device_count()):
        raise ConfigError(f"--num-gpus {num_gpus} is impossible here: {max(torch.cuda.device_count(), 1)} at most")
    if num_gpus == 1:
        main(*args)
        return
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(num_gpus)}
    mp.start_processes(_run, (num_gpus, rendezvous, main, args), nprocs=num_gpus, start_method="spawn")


def _run(local_rank: int, per_machine: int, rendezvous: dict[str, str], main: Callable, args: tuple) -> None:
    """One process of the run; ``rendezvous`` is empty where torchrun has set the environment."""
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(local_rank)
    backend = "nccl" if has_gpu else "gloo"
    if rendezvous:
        address, port = rendezvous["MASTER_ADDR"], int(rendezvous["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False)
        dist.init_process_group(backend, store=store, rank=local_rank, world_size=int(rendezvous["WORLD_SIZE"]))
    else:
        dist.init_process_group(backend)
    try:
        comm.create_local_process_group(per_machine)
        main(*args)
    finally:
        dist.destroy_process_group()
