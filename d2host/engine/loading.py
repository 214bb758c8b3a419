"""Loaders whose batches are lists of dicts and depend neither on the number of workers nor on where a run resumed."""

import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from d2host import comm
from d2host.engine.errors import ConfigError, DeclipError
from d2host.engine.sampler import ResumableSampler


class ListLoader(DataLoader):
    """A loader that raises an error of a sample here, as the object it is, whatever process met it.

    See :func:`list_loader`; torch's own way would wrap the sentence into the traceback of the worker.
    """

    def __iter__(self) -> Iterator[list]:
        for batch in super().__iter__():
            for sample in batch:
                if isinstance(sample, DeclipError):
                    raise sample
            yield batch


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
        dataset: of samples by address; a :class:`d2host.engine.errors.DeclipError` of one is raised by the loader.
        num_workers: processes that load; 0: this one.
        kwargs: further arguments of :class:`torch.utils.data.DataLoader`.

    >>> list(list_loader(["a", "b", "c"], batch_size=2))
    [['a', 'b'], ['c']]
    """
    return ListLoader(
        _CatchingDataset(dataset),
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
