"""Batches of detection samples, which depend neither on the number of workers nor on where a run resumed."""

from collections.abc import Callable, Sequence

import numpy as np
from torch.utils.data import DataLoader, Dataset

from d2host.engine.errors import DataError
from d2host.engine.loading import endless_loader
from declip.data.detection.datasets import Records, detection_classes, detection_records

TrainMapper = Callable[[dict, np.random.Generator], dict]


class AugmentedDataset(Dataset):
    """Samples addressed by ``(epoch, index)``, augmented by a generator of (seed, epoch, index).

    Args:
        parts: dataset dicts, read when they are asked for.
        mapper: reads and augments one.
        seed: of the augmentations.
    """

    def __init__(self, parts: Sequence[Records], mapper: TrainMapper, seed: int) -> None:
        self.parts, self.mapper, self.seed = parts, mapper, seed
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, address: tuple[int, int]) -> dict:
        epoch, index = address
        part = int(np.searchsorted(self.ends, index, side="right"))
        record = self.parts[part][int(index - self.ends[part])]  # from the part's end
        return self.mapper(record, np.random.default_rng((self.seed, epoch, index)))


def detection_train_loader(
    names: Sequence[str],
    mapper: TrainMapper,
    *,
    seed: int,
    images_per_batch: int,
    accumulation_steps: int = 1,
    num_workers: int = 0,
    start_iter: int = 0,
) -> DataLoader:
    """This process's endless batches of some datasets, images without objects left out.

    Args:
        names: of registered datasets of one class list.
        mapper: such as :class:`declip.data.detection.mapper.DetectionMapper`.
        seed: of order and augmentations.
        images_per_batch: over all processes.
        accumulation_steps: batches per iteration.
        num_workers: processes that load.
        start_iter: iteration to begin with.

    Raises:
        DataError: a dataset is unknown, incomplete, has objects of novel classes, or they differ in their classes.
        ConfigError: the batch does not divide by the number of processes.
    """
    for name in names[1:]:
        if detection_classes(name) != detection_classes(names[0]):
            raise DataError(f"training sets '{names[0]}' and '{name}' have different classes: train on one of them")
    parts = [detection_records(name, training=True) for name in names]
    return endless_loader(
        AugmentedDataset(parts, mapper, seed),
        seed=seed,
        images_per_batch=images_per_batch,
        accumulation_steps=accumulation_steps,
        num_workers=num_workers,
        start_iter=start_iter,
    )
