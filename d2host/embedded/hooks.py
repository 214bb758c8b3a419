"""Hooks that most trainings need."""

import time
from collections.abc import Callable

from fvcore.common.checkpoint import PeriodicCheckpointer as FvcorePeriodicCheckpointer

from d2host.embedded import comm
from d2host.embedded.train_loop import HookBase

__all__ = ["CallbackHook", "EvalHook", "IterationTimer", "LRScheduler", "PeriodicCheckpointer", "PeriodicWriter"]


class CallbackHook(HookBase):
    """A hook from functions; each is called with the trainer."""

    def __init__(self, *, before_train=None, after_train=None, before_step=None, after_step=None) -> None:
        self._callbacks = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }

    def _call(self, name: str) -> None:
        if self._callbacks[name]:
            self._callbacks[name](self.trainer)

    def before_train(self) -> None:
        """Call the function given for it."""
        self._call("before_train")

    def after_train(self) -> None:
        """Call the function given for it, then let go of all functions."""
        self._call("after_train")
        self._callbacks = dict.fromkeys(self._callbacks)

    def before_step(self) -> None:
        """Call the function given for it."""
        self._call("before_step")

    def after_step(self) -> None:
        """Call the function given for it."""
        self._call("after_step")


class IterationTimer(HookBase):
    """Records the seconds of each step as ``time``, skipping the first ``warmup_iter``."""

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._start = 0.0

    def before_step(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_step(self) -> None:
        """Stop it."""
        if self.trainer.iter - self.trainer.start_iter >= self._warmup_iter:
            self.trainer.storage.put_scalar("time", time.perf_counter() - self._start)


class PeriodicWriter(HookBase):
    """Calls writers every ``period`` iterations and at the end."""

    def __init__(self, writers, period: int = 20) -> None:
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        """Write when a period is over."""
        if (self.trainer.iter + 1) % self._period == 0 or self.trainer.iter == self.trainer.max_iter - 1:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        """Write what is left and close."""
        for writer in self._writers:
            writer.write()
            writer.close()


class PeriodicCheckpointer(FvcorePeriodicCheckpointer, HookBase):
    """fvcore's periodic checkpointer as a hook."""

    def before_train(self) -> None:
        """Learn the last iteration."""
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        """Save when a period is over."""
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Steps a learning-rate schedule and records ``lr`` of the largest parameter group."""

    def __init__(self, optimizer, scheduler) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler

    def after_step(self) -> None:
        """Record, then step."""
        group = max(self._optimizer.param_groups, key=lambda group: len(group["params"]))
        self.trainer.storage.put_scalar("lr", group["lr"], smoothing_hint=False)
        self._scheduler.step()

    def state_dict(self) -> dict:
        """The schedule's state."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore it."""
        self._scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Calls an evaluation every ``eval_period`` iterations (0: never) and after a full training."""

    def __init__(self, eval_period: int, eval_function: Callable, eval_after_train: bool = True) -> None:
        self._period = eval_period
        self._function = eval_function
        self._after_train = eval_after_train

    def _evaluate(self) -> None:
        results = self._function()
        assert results is None or isinstance(results, dict), f"an evaluation returns a dict, not {results!r}"
        for name, value in _flatten(results or {}).items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        comm.synchronize()

    def after_step(self) -> None:
        """Evaluate when a period is over, but leave the last iteration to :meth:`after_train`."""
        iteration = self.trainer.iter + 1
        if self._period > 0 and iteration % self._period == 0 and iteration != self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        """Evaluate a training that ran to its end."""
        if self._after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._evaluate()


def _flatten(results: dict, prefix: str = "") -> dict[str, float]:
    """Nested results → ``a/b/c`` names, numbers only."""
    flat: dict[str, float] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{name}/"))
        elif isinstance(value, (int, float)):
            flat[name] = float(value)
    return flat
