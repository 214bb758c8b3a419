"""How a person or the system asks a program to end: by an interrupt (SIGINT, Ctrl-C) or by termination (SIGTERM)."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDINGS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """An interrupt by the system: a scheduler takes the machine back."""


def answer(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let ``handler`` answer SIGINT and SIGTERM from now on, also what came while they were :func:`postponed`.

    An interrupt counts also where a shell, having started the program in the background, ignores it.

    Returns:
        Who answered before; empty outside the main thread, the only one that can answer: there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    former = {number: signal.signal(number, handler) or signal.SIG_DFL for number in ENDINGS}
    _mask("SIG_UNBLOCK")
    return former


@contextmanager
def answered_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let ``handler`` :func:`answer` within the block."""
    former = answer(handler)
    try:
        yield
    finally:
        for number, each in former.items():
            signal.signal(number, each)


def raise_once(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt or :class:`Terminated` where the program is; what that unwinds is not disturbed again."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def postponed() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the block is over, in processes started within it until they answer there."""
    _mask("SIG_BLOCK")
    try:
        yield
    finally:
        _mask("SIG_UNBLOCK")


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(getattr(signal, how), ENDINGS)
