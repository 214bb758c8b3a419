"""Curves of trainings, from the ``metrics.json`` that each writes: the numbers, and their picture."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from d2host.engine.errors import DataError
from declip.data.text_files import read_text
from declip.evaluation.style import SMALL, TITLE, add_legend, line_style

METRICS, ITERATION, LOSS = "metrics.json", "iteration", "total_loss"
COLUMNS = 2
SHOWN = 12  # curves that a message names
REMEDY = "give a training's output directory, or its metrics.json"


@dataclass(frozen=True)
class Curve:
    """One number over a training.

    Attributes:
        iterations, values: of the same length; iterations rise.
    """

    iterations: np.ndarray
    values: np.ndarray

    def smoothed(self, window: int) -> "Curve":
        """The mean of each value and those before it, up to ``window`` of them.

        >>> Curve(np.arange(4), np.array([4.0, 2.0, 0.0, 1.0])).smoothed(2).values
        array([4. , 3. , 1. , 0.5])
        """
        sums = np.cumsum(np.concatenate([np.zeros(1), self.values]))
        last = np.arange(1, len(self.values) + 1)
        first = np.maximum(last - window, 0)
        return Curve(self.iterations, (sums[last] - sums[first]) / (last - first))


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Every number that a training has written, by name, over its iterations.

    Lines hold what is new at an iteration. Where an iteration occurs twice (a run that went on from an earlier
    checkpoint) the later line counts, and a number that is not finite is left out.

    Args:
        path: of an output directory, or of its ``metrics.json``.

    Raises:
        DataError: there is no such file, or a line is no JSON object with an iteration.
    """
    path = Path(path)
    path = path / METRICS if os.path.isdir(path) else path
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(read_text(path, "metrics file", REMEDY).splitlines(), start=1):
        try:
            scalars = json.loads(line)
            iteration = int(scalars.pop(ITERATION))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"metrics file {path}, line {number} has no numbers of an iteration: {REMEDY}") from error
        for name, value in scalars.items():
            if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
                found.setdefault(name, {})[iteration] = float(value)
    if not found:
        raise DataError(f"metrics file {path} holds no numbers: {REMEDY}")
    return {name: Curve(*map(np.array, zip(*sorted(each.items()), strict=True))) for name, each in found.items()}


def training(
    runs: Mapping[str, str | Path], curves: Sequence[str] | None = None, smooth: int = 1, log_scale: bool = False
) -> Figure:
    """A figure of the curves of several trainings, a panel per curve, runs laid over each other.

    Args:
        runs: title → output directory, or its ``metrics.json``.
        curves: names of what is drawn, such as ``total_loss`` or ``lr``; None: the losses, as far as there are any.
        smooth: how many values each point is the mean of; the values themselves show faintly behind.
        log_scale: whether values are drawn on a logarithmic scale.

    Raises:
        DataError: a file is unreadable, or no run has a curve.

    >>> from declip.visualization import training
    >>> _ = Path("metrics.json").write_text('{"iteration": 9, "total_loss": 2}\\n{"iteration": 19, "total_loss": 1}')
    >>> training({"a run": "metrics.json"}).savefig("training.png")
    """
    found = {title: read_curves(path) for title, path in runs.items()}
    known = sorted({name for each in found.values() for name in each})
    chosen = [name for name in known if "loss" in name] if curves is None else curves
    for name in chosen or [LOSS]:
        if name not in known:
            more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
            raise DataError(f"no metrics file has a curve '{name}': choose among {', '.join(known[:SHOWN])}{more}")
    return draw_training(found, chosen, smooth, log_scale)


def draw_training(
    found: Mapping[str, Mapping[str, Curve]], curves: Sequence[str], smooth: int = 1, log_scale: bool = False
) -> Figure:
    """A panel per curve, a line per run that has it; see :func:`training`."""
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.4, 2.6 * rows + 0.4), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flat
    lines = {}
    for axes, name in zip(cells, curves, strict=False):
        for number, (title, each) in enumerate(found.items()):
            if name not in each:
                continue
            curve, style = each[name], line_style(number) | {"marker": "" if len(each[name].values) > 1 else "o"}
            if smooth > 1:
                axes.plot(curve.iterations, curve.values, **style | {"alpha": 0.25, "linewidth": 0.8})
            smoothed = curve.smoothed(smooth)
            (lines[title],) = axes.plot(smoothed.iterations, smoothed.values, **style)
        axes.set_title(name, fontsize=TITLE, parse_math=False)
        axes.set_xlabel("iteration", fontsize=TITLE)
        axes.tick_params(labelsize=SMALL)
        axes.grid(alpha=0.3)
        if log_scale:
            axes.set_yscale("log")
    for axes in list(figure.axes)[len(curves) :]:
        axes.axis("off")
    add_legend(figure, lines.items(), loc="outside lower center", ncols=4, fontsize=TITLE)
    return figure
