"""Which sample comes when: an endless order that depends on the seed and the position alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from d2host.engine.errors import DataError


def shuffled(size: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers below ``size`` in an order drawn from (seed, epoch)."""
    # a key of the sequence, not a part of its entropy: (seed, epoch) and (seed, epoch, 0) are the same entropy
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.random.default_rng(sequence).permutation(size)


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

    >>> from itertools import islice
    >>> list(islice(ResumableSampler(3, seed=0, shuffle=False), 4))
    [(0, 0), (0, 1), (0, 2), (1, 0)]

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
            raise DataError(f"there are {size} samples to train on: check the dataset's files")
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.start = start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch, order = self.start + self.rank * self.batch_size, -1, range(0)
        while True:
            for offset in range(position, position + self.batch_size):
                if offset // self.size != epoch:
                    epoch = offset // self.size
                    order = shuffled(self.size, self.seed, epoch) if self.shuffle else range(self.size)
                yield epoch, int(order[offset % self.size])
            position += self.batch_size * self.world_size
