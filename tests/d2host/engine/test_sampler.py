from itertools import islice

import pytest

from d2host.engine.errors import DataError
from d2host.engine.sampler import ResumableSampler

ORDER = [0, 5, 1, 8, 9, 6, 2, 4, 3, 7]


def take(count, **options):
    return list(islice(ResumableSampler(10, seed=3, **options), count))


def test_every_epoch_is_a_permutation_and_epochs_differ():
    pairs = take(30)
    orders = [[index for epoch, index in pairs if epoch == number] for number in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_without_shuffling_every_epoch_is_in_order():
    assert [index for _, index in take(12, shuffle=False)] == [*range(10), 0, 1]


@pytest.mark.parametrize("start", [0, 4, 8, 20])
def test_a_start_continues_the_uninterrupted_order(start):
    assert take(9, batch_size=4, start=start) == take(start + 9)[start:]


def test_two_processes_see_together_what_one_sees():
    one = take(24)
    parts = [take(12, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    batches = [
        first + second
        for first, second in zip(*([part[k : k + 2] for k in range(0, 12, 2)] for part in parts), strict=True)
    ]
    assert [pair for batch in batches for pair in batch] == one


def test_the_order_is_that_of_numpys_seed_sequence_in_every_process_and_version_of_python():
    assert [index for _, index in take(10)] == ORDER


def test_the_order_depends_on_the_seed():
    assert list(islice(ResumableSampler(10, seed=4), 10)) != take(10)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="there are 0 samples to train on"):
        ResumableSampler(0, seed=0)
