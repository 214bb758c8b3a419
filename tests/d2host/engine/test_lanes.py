"""Batches of lanes: the same however they are shared over processes and workers, and from any place on."""

from itertools import chain, count, islice
from unittest import mock

import pytest

from d2host.engine.errors import CheckpointError, ConfigError, DataError
from d2host.engine.lanes import Place, lane_loader

LANES = 6


def read_lane(lane, place):
    """Shards of 2 to 4 samples, which are strings of lane, shard and position."""
    position = place.position
    for shard in count(place.shard):
        for number in range(position, 2 + (lane + shard) % 3):
            yield {"sample": f"{lane}/{shard}/{number}", "place": Place(shard, number + 1)}
        position = 0


def fail_in_lane_3(lane, place):
    yield {"sample": lane}
    if lane == 3:
        raise DataError("shard 3 is damaged: get it again")
    yield from read_lane(lane, place)


def batches(number, workers=0, read=read_lane, **options):
    options = {"images_per_batch": LANES, "num_workers": workers, **options}
    return list(islice(lane_loader(read, **options), number))


def samples(found):
    return [[sample["sample"] for sample in batch] for batch in found]


@pytest.fixture(scope="module")
def whole():
    return batches(12)


def test_a_batch_takes_a_sample_of_every_lane(whole):
    assert samples(whole)[:3] == [
        [f"{lane}/0/0" for lane in range(LANES)],
        [f"{lane}/0/1" for lane in range(LANES)],
        ["0/1/0", "1/0/2", "2/0/2", "3/1/0", "4/0/2", "5/0/2"],
    ]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_batches_do_not_depend_on_the_number_of_workers(workers, whole):
    assert samples(batches(12, workers)) == samples(whole)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_lanes(world_size, whole):
    shares = []
    for rank in range(world_size):
        with (
            mock.patch("d2host.comm.get_world_size", return_value=world_size),
            mock.patch("d2host.comm.get_rank", return_value=rank),
        ):
            shares.append(samples(batches(12)))
    together = [[*chain(*parts)] for parts in zip(*shares, strict=True)]
    assert together == samples(whole)


@pytest.mark.parametrize("done", [1, 2, 3, 7])
def test_lanes_go_on_where_a_batch_left_them(done, whole):
    places = [tuple(sample["place"]) for sample in whole[done - 1]]
    assert samples(batches(12 - done, 2, places=places)) == samples(whole[done:])


@pytest.mark.parametrize("workers", [0, 2])
def test_what_reading_raises_is_raised_here(workers):
    with pytest.raises(DataError, match="shard 3 is damaged: get it again"):
        batches(2, workers, fail_in_lane_3)


def test_places_of_another_number_of_lanes_are_refused():
    with pytest.raises(CheckpointError, match=r"says of 5 lanes of shards .* but a batch of 6 has as many"):
        batches(1, places=[(0, 0)] * 5)
    for odd in ((0, -1), (0, 0, 0)):
        with pytest.raises(CheckpointError, match="says of 6 lanes"):
            batches(1, places=[odd] * 6)
    with mock.patch("d2host.comm.get_world_size", return_value=4), pytest.raises(ConfigError, match="does not divide"):
        batches(1)
