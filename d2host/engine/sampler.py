"""Which sample comes when: an endless order that depends on the seed and the position alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from d2host.engine.errors import DataError


class ResumableSampler(Sampler[tuple[int, int]]):
    """Endless ``(epoch, index)`` pairs; every epoch is a permutation drawn from (seed, epoch).

    Position p of the global order belongs to rank ``(p // batch_size) % world_size``: two processes with batches of b
    see, together, the batches that one process with 2b sees. Starting at a position gives exactly what an
    uninterrupted run would have seen from there, whatever workers had fetched ahead.

    Args:
        size: samples in the dataset.
        seed: of the permutations.
        shuffle: False: every epoch in order.
        batch_size: consecutive positions of one process.
        rank, world_size: this process among all.
        start: global position to begin with, a multiple of ``batch_size * world_size``.

    Raises:
        DataError: the dataset is empty.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        shuffle: bool = True,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        if size <= 0:
            raise DataError("the training dataset is empty: check DATASETS.TRAIN and the dataset's files")
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.start = start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch, order = self.start + self.rank * self.batch_size, -1, []
        while True:
            for offset in range(position, position + self.batch_size):
                if offset // self.size != epoch:
                    epoch = offset // self.size
                    order = self._order(epoch)
                yield epoch, order[offset % self.size]
            position += self.batch_size * self.world_size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(hash((self.seed, epoch)) % 2**63)
        return torch.randperm(self.size, generator=generator).tolist()
