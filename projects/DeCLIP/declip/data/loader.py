"""Loaders of test images: one image a batch, a share of the dataset per process."""

from torch.utils.data import DataLoader, Dataset

from d2host import comm
from d2host.engine.loading import list_loader
from declip.data.datasets import class_names, dataset_records
from declip.data.mapper import TestMapper


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


def build_test_loader(cfg, name: str) -> DataLoader:
    """This process's share of a test set, one image a batch; shares are contiguous and differ by one at most.

    Raises:
        DataError: the dataset is unknown or incomplete.
    """
    class_names(name)
    records = dataset_records(name)
    rank, world_size = comm.get_rank(), comm.get_world_size()
    share = records[len(records) * rank // world_size : len(records) * (rank + 1) // world_size]
    dataset = TestDataset(share, TestMapper(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST))
    return list_loader(dataset, cfg.DATALOADER.NUM_WORKERS, batch_size=1, shuffle=False)
