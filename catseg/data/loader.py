"""Data loaders: batches are lists of dicts, and depend neither on the number of workers nor on where a run resumed."""

import signal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from catseg.data.datasets import class_names
from catseg.data.mapper import TestMapper, TrainMapper
from d2host import DatasetCatalog, MetadataCatalog, comm
from declip.engine.sampler import ResumableSampler
from declip.errors import ConfigError, DataError


class TrainDataset(Dataset):
    """Samples addressed by ``(epoch, index)``, augmented by a generator of (seed, epoch, index).

    Args:
        records: dataset dicts.
        mapper: reads and augments one.
        seed: of the augmentations.
    """

    def __init__(self, records: list[dict], mapper: TrainMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, address: tuple[int, int]) -> dict:
        epoch, index = address
        return self.mapper(self.records[index], np.random.default_rng((self.seed, epoch, index)))


class TestDataset(Dataset):
    """Test images in order.

    Args:
        records: dataset dicts.
        mapper: reads one.
    """

    def __init__(self, records: list[dict], mapper: TestMapper) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        return self.mapper(self.records[index])


def build_train_loader(cfg, start_iter: int = 0) -> DataLoader:
    """This process's endless batches of ``DATASETS.TRAIN``, from iteration ``start_iter`` on.

    Several training sets are concatenated; they must share their class list. ``SOLVER.IMS_PER_BATCH`` images are
    spread over the processes; with ``SOLVER.ACCUMULATION_STEPS`` k, each iteration takes k batches.

    Raises:
        DataError: a dataset is unknown or incomplete, or class lists differ.
        ConfigError: the batch does not divide by the number of processes.
    """
    names, world_size = cfg.DATASETS.TRAIN, comm.get_world_size()
    check_training_sets(names)
    batch_size = per_process_batch(cfg.SOLVER.IMS_PER_BATCH, world_size)
    records = [record for name in names for record in DatasetCatalog.get(name)]
    mapper = TrainMapper.from_config(cfg, MetadataCatalog.get(names[0]))
    dataset = TrainDataset(records, mapper, max(cfg.SEED, 0))
    sampler = ResumableSampler(
        len(dataset),
        max(cfg.SEED, 0),
        batch_size=batch_size,
        rank=comm.get_rank(),
        world_size=world_size,
        start=start_iter * cfg.SOLVER.ACCUMULATION_STEPS * cfg.SOLVER.IMS_PER_BATCH,
    )
    return _loader(dataset, cfg.DATALOADER.NUM_WORKERS, batch_size=batch_size, sampler=sampler)


def build_test_loader(cfg, name: str) -> DataLoader:
    """This process's share of a test set, one image a batch; shares are contiguous and differ by one at most.

    Raises:
        DataError: the dataset is unknown or incomplete.
    """
    class_names(name)
    records = DatasetCatalog.get(name)
    rank, world_size = comm.get_rank(), comm.get_world_size()
    share = records[len(records) * rank // world_size : len(records) * (rank + 1) // world_size]
    dataset = TestDataset(share, TestMapper(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST))
    return _loader(dataset, cfg.DATALOADER.NUM_WORKERS, batch_size=1, shuffle=False)


def check_training_sets(names: tuple[str, ...]) -> None:
    """Refuse an empty or inconsistent choice of training sets.

    Raises:
        ConfigError: none is named.
        DataError: one is unknown, or two have different class lists.
    """
    if not names:
        raise ConfigError("DATASETS.TRAIN names no dataset: set it, for instance to ('nano_train',)")
    for name in names[1:]:
        if list(class_names(name)) != list(class_names(names[0])):
            raise DataError(f"training sets '{names[0]}' and '{name}' have different class lists: train on one of them")
    class_names(names[0])


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


def _loader(dataset: Dataset, num_workers: int, **kwargs) -> DataLoader:
    """A loader of lists; its own generator keeps it from drawing on the one that training depends on."""
    return DataLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=_leave_interrupts_to_parent,
        generator=torch.Generator(),
        **kwargs,
    )


def _leave_interrupts_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; only the main one should report it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
