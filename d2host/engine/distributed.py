"""Running in one process, in several that are started here, or in one that torchrun started."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from d2host.engine.errors import ConfigError, TrainingError
from d2host.engine.processes import run_processes
from d2host.resolve import require_host, resolve_host

JOINING = timedelta(minutes=2)  # that the processes of a run wait for each other at its beginning


def launch(main: Callable, num_gpus: int = 1, args: tuple = ()) -> None:
    """Call ``main(*args)`` once per process of the run.

    Under torchrun (``RANK`` and ``WORLD_SIZE`` are set) this process is one of the run's. Otherwise ``num_gpus``
    processes are started on this machine, or none if that is 1. Processes talk by NCCL on GPUs and by gloo on CPUs;
    where there is no GPU, ``num_gpus`` counts processes, of which there may be one per CPU, and always two.

    >>> launch(print, args=("in this process",))
    in this process

    Raises:
        ConfigError: more GPUs are asked for than there are, the variables of torchrun contradict each other, or a
            process resolves another host than this one.
        TrainingError: a process was killed, or the processes do not find each other.
        DeclipError: what a process raised, as the object it is; the other processes are ended.
        KeyboardInterrupt: an interrupt or, as :class:`d2host.engine.endings.Terminated`, a termination.
    """
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        _run_one_of_torchrun(main, num_gpus, args)
    elif num_gpus == 1:
        main(*args)
    else:
        _run_on_this_machine(main, num_gpus, args)


def _run_on_this_machine(main: Callable, num_gpus: int, args: tuple) -> None:
    import torch
    import torch.distributed as dist

    gpus = torch.cuda.device_count()
    most = gpus or max(2, os.cpu_count() or 1)
    if not 1 <= num_gpus <= most:
        kind = "GPUs" if gpus else "processes, for want of GPUs one per CPU"
        raise ConfigError(f"--num-gpus {num_gpus} is impossible here: this machine can have 1 to {most} {kind}")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    run_processes(_run_started, num_gpus, (num_gpus, store.port, resolve_host().name, main, args))


def _run_started(rank: int, world_size: int, port: int, host: str, main: Callable, args: tuple) -> None:
    import torch.distributed as dist

    require_host(host)
    with _process_group(rank, world_size, rank, world_size, lambda: dist.TCPStore("127.0.0.1", port, timeout=JOINING)):
        main(*args)


def _run_one_of_torchrun(main: Callable, num_gpus: int, args: tuple) -> None:
    """One process of a run that torchrun, or who sets the same variables, has started.

    Raises:
        ConfigError: the variables do not describe a run, or one whose restarted processes could not find each other.
    """
    import torch.distributed as dist

    world_size = _read_number("WORLD_SIZE", 1, 2**31)
    rank = _read_number("RANK", 0, world_size)
    local_size = _read_number("LOCAL_WORLD_SIZE", 1, world_size + 1, default=world_size)
    local_rank = _read_number("LOCAL_RANK", 0, local_size, default=rank % local_size)
    _read_number("MASTER_PORT", 1, 2**16)
    if world_size % local_size:
        raise ConfigError(f"WORLD_SIZE {world_size} is no multiple of LOCAL_WORLD_SIZE {local_size}: correct one")
    if num_gpus not in (1, local_size):
        raise ConfigError(f"--num-gpus {num_gpus} under torchrun, which runs {local_size} processes here: leave it out")
    if not os.environ.get("MASTER_ADDR"):
        raise ConfigError("MASTER_ADDR is not set, though RANK and WORLD_SIZE are: start with torchrun, or unset them")
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ConfigError(
            "torchrun is to restart processes (--max-restarts), which then would look for those that are gone: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where it is started"
        )
    rendezvous = dist.rendezvous("env://", rank, world_size, timeout=JOINING)
    with _process_group(rank, world_size, local_rank, local_size, lambda: next(rendezvous)[0]):
        main(*args)


def _read_number(variable: str, lowest: int, end: int, default: int | None = None) -> int:
    """The number in an environment variable, at least ``lowest`` and below ``end``.

    Raises:
        ConfigError: it is not there and has no default, or is another.
    """
    text = os.environ.get(variable, "" if default is None else str(default))
    if not (text.isascii() and text.isdecimal() and lowest <= int(text) < end):
        state = f"is '{text}'" if text else "is not set"
        raise ConfigError(
            f"{variable} {state}, but RANK or WORLD_SIZE makes this one process of several, so it has to be a number "
            f"from {lowest} to {end - 1}: start with torchrun, or unset these variables"
        )
    return int(text)


@contextmanager
def _process_group(
    rank: int, world_size: int, local_rank: int, local_size: int, connect: Callable[[], Any]
) -> Iterator[None]:
    """The block is what one process of a run does; it can talk to the others.

    Args:
        local_rank, local_size: among the processes of this machine.
        connect: gives the store through which they find each other.

    Raises:
        ConfigError: the machine has not a GPU for each of its processes.
        TrainingError: they do not find each other.
        LostProcessError: another process has ended meanwhile.
    """
    import torch
    import torch.distributed as dist

    from d2host import comm
    from d2host.engine.parallel import losing_no_process

    gpus = torch.cuda.device_count()
    if gpus and local_rank >= gpus:
        raise ConfigError(f"LOCAL_RANK {local_rank} has no GPU, for this machine has {gpus}: start {gpus} at most")
    if gpus:
        torch.cuda.set_device(local_rank)
    try:
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=connect(), rank=rank, world_size=world_size)
        comm.create_local_process_group(local_size)
    except (RuntimeError, ValueError) as error:  # of torch's store and process groups, which have no type in common
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}" if "MASTER_ADDR" in os.environ else "here"
        raise TrainingError(
            f"process {rank} of {world_size} could not join the others at {where} within {JOINING.seconds} s "
            f"({' '.join(str(error).split())}): start all of them, and give a port that is free"
        ) from error
    with losing_no_process():
        yield
    dist.destroy_process_group()  # only after success: where a process is missing, this would wait for it
