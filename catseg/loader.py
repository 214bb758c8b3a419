"""Data loaders: batches are lists of dicts, and depend neither on the number of workers nor on where a run resumed."""

import numpy as np
from torch.utils.data import DataLoader, Dataset

from catseg.mapper import TrainMapper
from d2host.engine.errors import ConfigError, DataError
from d2host.engine.loading import endless_loader
from declip.data.datasets import class_names, dataset_metadata, dataset_records


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


def build_train_loader(cfg, start_iter: int = 0) -> DataLoader:
    """This process's endless batches of ``DATASETS.TRAIN``, from iteration ``start_iter`` on.

    Several training sets are concatenated; they must share their class list. ``SOLVER.IMS_PER_BATCH`` images are
    spread over the processes; with ``SOLVER.ACCUMULATION_STEPS`` k, each iteration takes k batches.

    Raises:
        DataError: a dataset is unknown or incomplete, or class lists differ.
        ConfigError: the batch does not divide by the number of processes.
    """
    names = cfg.DATASETS.TRAIN
    check_training_sets(names)
    records = [record for name in names for record in dataset_records(name)]
    mapper = TrainMapper.from_config(cfg, dataset_metadata(names[0]))
    return endless_loader(
        TrainDataset(records, mapper, max(cfg.SEED, 0)),
        seed=max(cfg.SEED, 0),
        images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_iter=start_iter,
    )


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
