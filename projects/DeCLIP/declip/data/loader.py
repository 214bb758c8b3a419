"""Loaders of images to evaluate on: every process takes a share of the dataset."""

import math
from collections.abc import Callable, Sequence

from torch.utils.data import DataLoader, Dataset

from d2host import comm
from d2host.engine.loading import list_loader
from declip.data.datasets import dataset_records
from declip.data.mapper import TestMapper


class MappedDataset(Dataset):
    """Records in order, each read when it is asked for.

    Args:
        records: dataset dicts.
        mapper: reads one.
    """

    def __init__(self, records: Sequence[dict], mapper: Callable[[dict], dict]) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        return self.mapper(self.records[index])


def share_of(records: Sequence, batch_size: int = 1) -> Sequence:
    """What this process takes of the records: whole batches, so that these are the same in any number of processes.

    Shares are contiguous and differ by one batch at most.

    >>> share_of([{"image_id": "a"}, {"image_id": "b"}])  # in the only process
    [{'image_id': 'a'}, {'image_id': 'b'}]
    """
    rank, world_size = comm.get_rank(), comm.get_world_size()
    batches = math.ceil(len(records) / batch_size)
    return records[batches * rank // world_size * batch_size : batches * (rank + 1) // world_size * batch_size]


def evaluation_loader(
    records: Sequence[dict], mapper: Callable[[dict], dict], num_workers: int, batch_size: int = 1
) -> DataLoader:
    """This process's share of the records, read in order, in batches that are lists.

    Args:
        records: dataset dicts of all processes.
        mapper: reads one.
        num_workers: processes that load.
        batch_size: images of a batch.
    """
    dataset = MappedDataset(share_of(records, batch_size), mapper)
    return list_loader(dataset, num_workers, batch_size=batch_size, shuffle=False)


def build_test_loader(cfg, name: str) -> DataLoader:
    """This process's share of a test set, one image a batch, resized as ``cfg.INPUT`` says.

    Raises:
        DataError: the dataset is unknown or incomplete.
    """
    mapper = TestMapper(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return evaluation_loader(dataset_records(name), mapper, cfg.DATALOADER.NUM_WORKERS)
