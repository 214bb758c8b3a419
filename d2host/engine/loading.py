"""Loaders whose batches are lists of dicts and depend neither on the number of workers nor on where a run resumed."""

import signal
import sys
from types import TracebackType

import torch
from torch.utils.data import DataLoader, Dataset

from d2host import comm
from d2host.engine.errors import ConfigError
from d2host.engine.sampler import ResumableSampler


def endless_loader(
    dataset: Dataset, *, seed: int, images_per_batch: int, accumulation_steps: int, num_workers: int, start_iter: int
) -> DataLoader:
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

    Raises:
        ConfigError: they do not divide evenly.
    """
    if images_per_batch % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {images_per_batch} does not divide by {world_size} processes: change one of them"
        )
    return images_per_batch // world_size


def list_loader(dataset: Dataset, num_workers: int, **kwargs) -> DataLoader:
    """A loader of lists; its own generator keeps it from drawing on the one that training depends on."""
    return DataLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=_leave_endings_to_parent,
        generator=torch.Generator(),
        **kwargs,
    )


def _leave_endings_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, and a parent that ends breaks connections: only it should report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_disconnected


def _report_unless_disconnected(kind: type[BaseException], error: BaseException, traceback: TracebackType) -> None:
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, traceback)
