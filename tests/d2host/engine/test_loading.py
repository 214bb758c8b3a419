from itertools import islice

import pytest
from torch.utils.data import Dataset

from d2host.engine.errors import ConfigError, DataError
from d2host.engine.loading import endless_loader, list_loader, per_process_batch


class Numbers(Dataset):
    """Ten numbers by (epoch, index), of which one cannot be read."""

    def __init__(self, broken=-1, defect=-1):
        self.broken, self.defect = broken, defect

    def __len__(self):
        return 10

    def __getitem__(self, address):
        index = address[1] if isinstance(address, tuple) else address
        if index == self.broken:
            raise DataError(f"image {index}.jpg is unreadable: replace it")
        if index == self.defect:
            raise ZeroDivisionError("a defect of the program")
        return index


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_sample_is_raised_as_the_object_it_is(workers):
    with pytest.raises(DataError) as caught:
        list(list_loader(Numbers(broken=7), workers, batch_size=2))
    assert type(caught.value) is DataError and str(caught.value) == "image 7.jpg is unreadable: replace it"


def test_batches_before_the_broken_one_arrive():
    assert list(islice(list_loader(Numbers(broken=7), 1, batch_size=2), 3)) == [[0, 1], [2, 3], [4, 5]]


def test_a_defect_keeps_the_traceback_of_its_worker():
    with pytest.raises(ZeroDivisionError, match="__getitem__"):
        list(list_loader(Numbers(defect=0), 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_endless_loader_starts_anywhere_whatever_loads(workers):
    options = dict(seed=3, images_per_batch=4, accumulation_steps=2, num_workers=workers)
    whole = list(islice(endless_loader(Numbers(), start_iter=0, **options), 8))
    resumed = list(islice(endless_loader(Numbers(), start_iter=2, **options), 4))
    assert resumed == whole[4:]


def test_batches_that_do_not_divide_are_refused():
    assert per_process_batch(8, 2) == 4
    with pytest.raises(ConfigError, match=r"images_per_batch 4 .* does not divide by 3 processes"):
        per_process_batch(4, 3)
