"""Metrics of a running training, one storage per run.

A storage opened with ``with`` is the current one of its thread of control; code deep inside a model records metrics
with ``get_event_storage().put_scalar(...)`` and needs no reference to the trainer.
"""

from collections import defaultdict
from contextlib import contextmanager
from contextvars import ContextVar

from fvcore.common.history_buffer import HistoryBuffer

_CURRENT: ContextVar[tuple["EventStorage", ...]] = ContextVar("event_storages", default=())


def get_event_storage() -> "EventStorage":
    """The innermost open storage."""
    storages = _CURRENT.get()
    assert storages, "there is no event storage: record metrics inside 'with EventStorage(...)' or a trainer's loop"
    return storages[-1]


class EventStorage:
    """Scalars by name, with their history, and the iteration they belong to.

    Args:
        start_iter: iteration to begin with.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._prefix = ""
        self._token = None

    def put_scalar(self, name: str, value, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Record one number; ``smoothing_hint`` says whether its median over a window is meaningful."""
        name, value = self._prefix + name, float(value)
        iteration = self.iter if cur_iter is None else cur_iter
        self._history[name].update(value, iteration)
        self._latest[name] = (value, iteration)
        hint = self._smoothing.setdefault(name, smoothing_hint)
        assert hint == smoothing_hint, f"scalar '{name}' was recorded with another smoothing_hint before"

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs) -> None:
        """Record several numbers by keyword."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        """All values of one scalar; KeyError for an unknown one."""
        if name not in self._history:
            raise KeyError(f"no scalar '{name}' was recorded")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """All values of all scalars."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """The last value of each scalar and its iteration."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As :meth:`latest`, with the median over the window for scalars that may be smoothed."""
        return {
            name: (self._history[name].median(min(window_size, self.count_samples(name, window_size)) or 1), iteration)
            if self._smoothing[name]
            else (value, iteration)
            for name, (value, iteration) in self._latest.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of a scalar fall into the last ``window_size`` iterations."""
        latest = self._latest[name][1]
        return sum(latest - window_size < iteration <= latest for _, iteration in self._history[name].values())

    def smoothing_hints(self) -> dict[str, bool]:
        """Whether each scalar may be smoothed."""
        return self._smoothing

    def step(self) -> None:
        """Go on to the next iteration."""
        self.iter += 1

    @property
    def iteration(self) -> int:
        """The current iteration."""
        return self.iter

    @contextmanager
    def name_scope(self, name: str):
        """Prefix every name recorded inside with ``name/``."""
        outer, self._prefix = self._prefix, f"{name.rstrip('/')}/"
        try:
            yield
        finally:
            self._prefix = outer

    def __enter__(self) -> "EventStorage":
        self._token = _CURRENT.set((*_CURRENT.get(), self))
        return self

    def __exit__(self, *exception) -> None:
        _CURRENT.reset(self._token)
