"""Hooks of the project's trainings, beyond the host's."""

import json
from pathlib import Path

from d2host import HookBase
from d2host.engine.atomic import replacing


class CheckpointHook(HookBase):
    """Saves the trainer's state every ``period`` iterations (0: never) and after the last one.

    Args:
        period: iterations between checkpoints.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    def after_step(self) -> None:
        """Save when a period is over, or as ``model_final`` at the end."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self.trainer.save("model_final")
        elif self.period > 0 and done % self.period == 0:
            self.trainer.save(f"model_{self.trainer.iter:07d}")


def forget_metrics_from(path: str | Path, iteration: int) -> None:
    """Drop the lines of a ``metrics.json`` from ``iteration`` on: a resumed run writes them again."""
    path = Path(path)
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["iteration"] < iteration:
                kept.append(line)
        except json.JSONDecodeError:  # a line cut short by a kill
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
