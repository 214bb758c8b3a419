import pytest
from torch.utils.data import DataLoader, Dataset

from d2host.engine.errors import ConfigError, DataError, DeclipError, one_sentence


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DataError("image a.jpg is unreadable: replace it")


def test_every_error_is_one_family():
    assert issubclass(ConfigError, DeclipError) and issubclass(ConfigError, ValueError)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sentence_survives_the_traceback_of_a_worker_process(workers):
    with pytest.raises(DataError) as caught:
        next(iter(DataLoader(Broken(), num_workers=workers)))
    assert one_sentence(caught.value) == "image a.jpg is unreadable: replace it"
