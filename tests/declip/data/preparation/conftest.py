"""Files that are spoilt as downloads are."""

import random

import pytest


@pytest.fixture(scope="session")
def spoilt():
    """Makes copies of some bytes, cut off or with one to three bytes changed, the same every time."""

    def copies(content, times, seed=0):
        random_ = random.Random(seed)
        for _ in range(times):
            data = bytearray(content)
            changes = random_.randrange(4)
            for _ in range(changes):
                data[random_.randrange(len(data))] = random_.randrange(256)
            yield bytes(data if changes else data[: random_.randrange(len(data))])

    return copies
