"""Running in one process, in several that are started here, or in one that torchrun started."""

import os
from collections.abc import Callable
from typing import Any

from d2host.engine.errors import ConfigError, DeclipError
from d2host.resolve import require_host, resolve_host


def launch(main: Callable, num_gpus: int = 1, args: tuple = ()) -> None:
    """Call ``main(*args)`` once per process of the run.

    Under torchrun (``RANK`` and ``WORLD_SIZE`` are set) this process is one of the run's. Otherwise ``num_gpus``
    processes are started on this machine, or none if that is 1. Processes talk by NCCL where there are GPUs, by gloo
    on CPUs (where "GPU" then means a process).

    >>> launch(print, args=("in this process",))
    in this process

    Raises:
        ConfigError: more GPUs are asked for than there are, or a process resolves another host than this one.
        DeclipError: the first that a process raised, as the object it is; the other processes are ended.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        per_machine = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        _join(int(os.environ.get("LOCAL_RANK", 0)), per_machine, {}, main, args)
    elif num_gpus == 1:
        main(*args)
    else:
        _start(main, num_gpus, args)


def _start(main: Callable, num_gpus: int, args: tuple) -> None:
    """Start the processes of this machine and wait for them; whatever ends this one ends them, too."""
    import torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from torch.multiprocessing.spawn import ProcessException

    if num_gpus < 1 or (torch.cuda.is_available() and num_gpus > torch.cuda.device_count()):
        raise ConfigError(f"--num-gpus {num_gpus} is impossible here: {max(torch.cuda.device_count(), 1)} at most")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(num_gpus)}
    faults = mp.get_context("spawn").SimpleQueue()
    arguments = (faults, resolve_host().name, num_gpus, rendezvous, main, args)
    processes = mp.start_processes(_run, arguments, nprocs=num_gpus, join=False, start_method="spawn")
    try:
        while not processes.join():
            pass
    except ProcessException:
        if faults.empty():
            raise
        raise faults.get() from None
    finally:
        for process in processes.processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _run(local_rank: int, faults: Any, host: str, per_machine: int, rendezvous: dict, main: Callable, args: tuple):
    """A started process: what a user can mend travels back as the exception it is, anything else as a traceback."""
    try:
        require_host(host)
        _join(local_rank, per_machine, rendezvous, main, args, report=faults.put)
    except DeclipError as error:
        if faults.empty():
            faults.put(error)
        raise SystemExit(1) from None


def _join(
    local_rank: int,
    per_machine: int,
    rendezvous: dict[str, str],
    main: Callable,
    args: tuple,
    report: Callable[[DeclipError], None] = lambda error: None,
) -> None:
    """One process of the run.

    Args:
        rendezvous: empty where torchrun has set the environment.
        report: takes an error before this process leaves the others, which then fail for want of it.
    """
    import torch
    import torch.distributed as dist

    from d2host import comm

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
    except DeclipError as error:
        report(error)
        raise
    finally:
        dist.destroy_process_group()
