"""What processes of a run do in test_distributed.py: a module of its own, for they import it by name."""

import os

from d2host.engine.errors import DataError


def fail_on_rank_1(folder):
    from d2host import comm

    (folder / f"{comm.get_rank()}.pid").write_text(str(os.getpid()))
    if comm.get_rank() == 1:
        raise DataError("image a.jpg is unreadable: replace it")
    comm.synchronize()


def divide_by_zero():
    return 1 // 0
