import multiprocessing
import os
import signal
from itertools import islice

import pytest
import torch
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


class Acting(Dataset):
    """Six samples, the fourth of which does something first."""

    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            self.act()
        return {"image": torch.zeros(100_000)}


@pytest.mark.parametrize(
    "name", ["SIGKILL", *(pytest.param(each, marks=pytest.mark.slow) for each in ("SIGBUS", "SIGSEGV", "SIGABRT"))]
)
def test_a_worker_that_is_killed_is_named_with_the_signal(name):
    loader = list_loader(Acting(lambda: os.kill(os.getpid(), getattr(signal, name))), 2, batch_size=1)
    with pytest.raises(DataError, match=rf"pid \d+\) was killed by {name}: .*DATALOADER.NUM_WORKERS"):
        list(loader)


@pytest.mark.slow
def test_a_worker_that_leaves_is_named_with_its_status():
    with pytest.raises(DataError, match=r"pid \d+\) ended with status 3"):
        list(list_loader(Acting(lambda: os._exit(3)), 1))


def test_a_batch_that_shared_memory_cannot_take_is_an_error_and_not_waited_for():
    resource = pytest.importorskip("resource")
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731 (shared memory is a file)
    with pytest.raises(DataError, match=r"cannot hand over its batch .*/dev/shm"):
        list(list_loader(Acting(small), 1, batch_size=2))


@pytest.mark.parametrize("started", [0, 2])
def test_workers_that_cannot_be_started_are_refused_and_none_is_left(started, monkeypatch):
    fork, left = os.fork, iter(range(started))

    def fork_a_few():
        if next(left, None) is None:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    before = multiprocessing.active_children()
    monkeypatch.setattr(os, "fork", fork_a_few)
    with pytest.raises(ConfigError, match=r"4 loading processes .* cannot be started .*unavailable"):
        list(list_loader(Acting(print), 4))
    for child in multiprocessing.active_children():
        if child not in before:
            child.join(timeout=10)
            assert not child.is_alive()


@pytest.mark.parametrize("workers", [-1, 100_000, 10**9])
def test_a_number_of_workers_that_cannot_be_is_refused(workers):
    with pytest.raises(ConfigError, match=rf"{workers} loading processes .* impossible here: give 0 to \d+"):
        list_loader(Acting(print), workers)


def test_a_termination_that_reaches_workers_too_leaves_them_at_work():
    others = multiprocessing.active_children()
    batches = iter(list_loader(Acting(print), 1, batch_size=1))
    assert len(next(batches)) == 1
    (worker,) = (child for child in multiprocessing.active_children() if child not in others)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.system(f"kill -{int(number)} {worker.pid}")  # not by this process, whose own SIGTERM ends a worker
    assert len(list(batches)) == 5
