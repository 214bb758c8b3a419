"""Loaders whose batches are lists of dicts and depend neither on the number of workers nor on where a run resumed."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from d2host import comm
from d2host.engine.endings import postponed
from d2host.engine.errors import ConfigError, DataError, DeclipError
from d2host.engine.packing import pack, unpack
from d2host.engine.sampler import ResumableSampler

WORKERS_PER_CPU = 16  # at most: more cost memory, and load nothing sooner


class ListLoader(DataLoader):
    """A loader that raises an error of a sample here, as the object it is, whatever process met it.

    See :func:`list_loader`; torch's own way would wrap the sentence into the traceback of the worker.
    """

    def __iter__(self) -> Iterator[list]:
        """Batches.

        Raises:
            ConfigError: the machine cannot start so many workers.
            DataError: a worker was killed, or has no shared memory for its batch.
            DeclipError: what a sample raised.
        """
        batches, workers = self._start()
        while True:
            try:
                batch = next(batches, None)
                batch = unpack(batch) if isinstance(batch, bytes) else batch
            except (RuntimeError, OSError, EOFError) as error:  # of a worker, or for want of one
                dead = next((worker for worker in workers if not worker.is_alive()), None)
                if dead is None:
                    raise
                raise _obituary(dead) from error
            if batch is None:
                return
            for sample in batch:
                if isinstance(sample, DeclipError):
                    raise sample
            yield batch

    def _start(self) -> tuple[Iterator, list[BaseProcess]]:
        """torch's iterator, and the workers that it has started."""
        others = multiprocessing.active_children()
        main = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
        former = signal.getsignal(signal.SIGCHLD) if main else None
        try:
            with postponed():  # until workers leave signals to their parent
                batches = super().__iter__()
        except (OSError, RuntimeError) as error:  # no process, no file handle, no memory, no thread
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.kill()
            raise ConfigError(
                f"{self.num_workers} loading processes (DATALOADER.NUM_WORKERS, --num-workers) cannot be started "
                f"({error}): ask for fewer"
            ) from error
        if former is not None:  # torch's handler would raise wherever the program is at that moment, not in ``next``
            signal.signal(signal.SIGCHLD, former)
        return batches, [each for each in multiprocessing.active_children() if each not in others]


def _obituary(worker: BaseProcess) -> DataError:
    status = worker.exitcode or 0
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return DataError(
        f"a process that loads images (pid {worker.pid}) {how}: the likely cause is too little memory (SIGKILL) or "
        "shared memory (SIGBUS), so lower the number of such processes (DATALOADER.NUM_WORKERS, --num-workers)"
    )


class _CatchingDataset(Dataset):
    """A dataset that hands out the errors of its samples instead of raising them."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, address: Any) -> Any:
        try:
            return self.dataset[address]
        except DeclipError as error:
            return error


def endless_loader(
    dataset: Dataset, *, seed: int, images_per_batch: int, accumulation_steps: int, num_workers: int, start_iter: int
) -> ListLoader:
    """This process's batches, without end, from iteration ``start_iter`` on.

    Args:
        dataset: takes ``(epoch, index)``.
        seed: of the order.
        images_per_batch: over all processes.
        accumulation_steps: batches per iteration.
        num_workers: processes that load.
        start_iter: iteration to begin with.

    Raises:
        ConfigError: the batch does not divide by the number of processes.
        DataError: the dataset is empty.
    """
    batch_size = per_process_batch(images_per_batch, comm.get_world_size())
    sampler = ResumableSampler(
        len(dataset),
        seed,
        batch_size=batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start=start_iter * accumulation_steps * images_per_batch,
    )
    return list_loader(dataset, num_workers, batch_size=batch_size, sampler=sampler)


def per_process_batch(images_per_batch: int, world_size: int) -> int:
    """Images per process and batch.

    >>> per_process_batch(8, world_size=2)
    4

    Raises:
        ConfigError: they do not divide evenly.
    """
    if images_per_batch % world_size:
        raise ConfigError(
            f"images_per_batch {images_per_batch} (SOLVER.IMS_PER_BATCH) does not divide by {world_size} processes: "
            "change one of them"
        )
    return images_per_batch // world_size


def list_loader(dataset: Dataset, num_workers: int = 0, **kwargs: Any) -> ListLoader:
    """A loader of lists of samples; its own generator keeps it from drawing on the one that training depends on.

    Args:
        dataset: of samples by address; a :class:`d2host.engine.errors.DeclipError` of one is raised by the loader. An
            iterable dataset gives lists of samples, and such an error as one of them.
        num_workers: processes that load, at most 16 per CPU; 0: this one.
        kwargs: further arguments of :class:`torch.utils.data.DataLoader`.

    Raises:
        ConfigError: the number of processes is negative, or larger.

    >>> list(list_loader(["a", "b", "c"], batch_size=2))
    [['a', 'b'], ['c']]
    """
    most = WORKERS_PER_CPU * (os.cpu_count() or 1)
    if not 0 <= num_workers <= most:
        raise ConfigError(
            f"{num_workers} loading processes (DATALOADER.NUM_WORKERS, --num-workers) are impossible here: give 0 to "
            f"{most}, {WORKERS_PER_CPU} per CPU"
        )
    return ListLoader(
        dataset if isinstance(dataset, IterableDataset) else _CatchingDataset(dataset),
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=_leave_endings_to_parent,
        generator=torch.Generator(),
        **kwargs,
    )


def _collate(samples: list) -> list | bytes:
    """A batch; of a worker packed, for torch would lose one that shared memory cannot take, and wait for it forever."""
    if get_worker_info() is None:
        return samples
    try:
        return pack(samples)
    except (OSError, RuntimeError) as error:
        sentence = (
            f"a loading process cannot hand over its batch ({error}): enlarge the shared memory (/dev/shm, in Docker "
            "--shm-size) or the number of open files (ulimit -n), or set DATALOADER.NUM_WORKERS 0"
        )
        return pack([DataError(sentence)])


def _leave_endings_to_parent(worker: int) -> None:
    """Signals to a whole group or job reach workers, too, and a parent that ends breaks connections.

    Only the parent should report, and it may still need them to save: no SIGTERM but its own, and its end, ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # on Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_when_parent_says, daemon=True).start()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.excepthook = _report_unless_disconnected


def _end_when_parent_says() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        continue
    os._exit(0)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # torch asks who the parent is only now: it may have ended before
    os._exit(1)


def _report_unless_disconnected(kind: type[BaseException], error: BaseException, traceback: TracebackType) -> None:
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, traceback)
