"""Batches of samples that are read one after the other, as those of shards are, from several lanes side by side.

A batch of B over all processes takes one sample from each of B lanes, always in the same order. Processes share the
lanes as they share a batch, and what loads for one of them takes some of its lanes. So the batches depend neither on
the number of processes nor on that of their workers. Each sample says where its lane goes on behind it
(:class:`Place`): the places of the last batch are what a checkpoint keeps.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from torch.utils.data import IterableDataset, get_worker_info

from d2host import comm
from d2host.engine.errors import CheckpointError, DeclipError
from d2host.engine.loading import list_loader, per_process_batch


class Place(NamedTuple):
    """Where a lane goes on.

    Attributes:
        shard: of those that are the lane's, counted from the beginning of the training.
        position: in that shard.
    """

    shard: int = 0
    position: int = 0


ReadLane = Callable[[int, Place], Iterator[dict]]
"""From the number of a lane and a place to its samples from there on, without end, each with its ``place``."""


class _Lanes(IterableDataset):
    """Lists of the next sample of each lane that this worker has."""

    def __init__(self, read_lane: ReadLane, lanes: Sequence[tuple[int, Place]]) -> None:
        self.read_lane, self.lanes = read_lane, lanes

    def __iter__(self) -> Iterator[list]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, end = (len(self.lanes) * each // workers for each in (number, number + 1))
        streams = [self.read_lane(*lane) for lane in self.lanes[first:end]]
        try:
            while True:
                yield [next(stream) for stream in streams]
        except DeclipError as error:
            yield [error]


def lane_loader(
    read_lane: ReadLane, *, images_per_batch: int, num_workers: int, places: Sequence[Place] = ()
) -> Iterator[list[dict]]:
    """This process's batches, without end.

    Args:
        read_lane: reads a lane; pickled for the workers.
        images_per_batch: over all processes, which is the number of lanes.
        num_workers: processes that load, of which there are as many as lanes at most.
        places: where each lane of all processes goes on; none: at the beginning.

    Raises:
        ConfigError: the batch does not divide by the number of processes.
        CheckpointError: there are places of another number of lanes.
        DeclipError: what reading a sample raised.

    >>> def read_lane(lane, place):
    ...     for position in range(place.position, 10):
    ...         yield {"sample": 10 * lane + position, "place": Place(0, position + 1)}
    >>> batches = lane_loader(read_lane, images_per_batch=2, num_workers=0)
    >>> [[sample["sample"] for sample in batch] for batch in islice(batches, 2)]
    [[0, 10], [1, 11]]
    """
    batch_size = per_process_batch(images_per_batch, comm.get_world_size())
    if len(places) not in (0, images_per_batch) or not all(len(place) == 2 and min(place) >= 0 for place in places):
        raise CheckpointError(
            f"the checkpoint says of {len(places)} lanes of shards where they go on, but a batch of {images_per_batch} "
            "has as many: it is of a training on other data, so give it as MODEL.WEIGHTS to start anew"
        )
    places = [Place(*place) for place in places] or [Place()] * images_per_batch
    first = batch_size * comm.get_rank()
    lanes = [(number, places[number]) for number in range(first, first + batch_size)]
    workers = min(num_workers, batch_size)
    parts = iter(list_loader(_Lanes(read_lane, lanes), workers, batch_size=None))
    while batch := [sample for part in islice(parts, max(workers, 1)) for sample in part]:
        yield batch
