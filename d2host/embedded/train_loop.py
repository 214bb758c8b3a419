"""A training loop with hooks."""

import logging
import weakref

from d2host.embedded.events import EventStorage
from d2host.engine.errors import DeclipError


class HookBase:
    """Something that happens around the steps of a trainer; ``self.trainer`` is set when it is registered."""

    trainer: "TrainerBase"

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration, also when training failed."""

    def before_step(self) -> None:
        """Before each iteration."""

    def after_backward(self) -> None:
        """After each iteration's backward pass."""

    def after_step(self) -> None:
        """After each iteration."""

    def state_dict(self) -> dict:
        """What the hook needs to go on after a restart."""
        return {}


class TrainerBase:
    """Runs :meth:`run_step` from ``start_iter`` to ``max_iter`` with hooks around it.

    Attributes:
        iter, start_iter, max_iter: where the loop is, began and ends; ``iter == max_iter`` after a full run.
        storage: the run's :class:`EventStorage`.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: list[HookBase | None]) -> None:
        """Add hooks, in the order they run; None is skipped."""
        for hook in hooks:
            if hook is not None:
                hook.trainer = weakref.proxy(self)
                self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the loop; hooks' ``after_train`` runs even when a step raises."""
        logger = logging.getLogger("d2host.trainer")
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter += 1
            except BrokenPipeError:  # nobody reads on
                raise
            except Exception as error:
                defect = not isinstance(error, DeclipError)
                logger.error("Training stopped at iteration %d: %s", self.iter, error, exc_info=defect)
                raise
            finally:
                self.after_train()

    def run_step(self) -> None:
        """One iteration."""
        raise NotImplementedError  # abstract

    def before_train(self) -> None:
        """Call the hooks."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call the hooks."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        """Call the hooks."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Call the hooks."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks."""
        for hook in self._hooks:
            hook.after_step()

    def state_dict(self) -> dict:
        """The iteration and the state of every hook that has one."""
        states = {type(hook).__qualname__: hook.state_dict() for hook in self._hooks}
        return {"iteration": self.iter, "hooks": {name: state for name, state in states.items() if state}}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.iter = state_dict["iteration"]
        for hook in self._hooks:
            state = state_dict.get("hooks", {}).get(type(hook).__qualname__)
            if state:
                hook.load_state_dict(state)
