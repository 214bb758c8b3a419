"""A table's numbers over seeds, and what they say about the paper's claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from d2host.engine.atomic import replacing
from nanoworld.reproduce.tables import Claim, Table

CLEAR, WEAK, NONE = "yes", "in the mean, but intervals overlap", "no"


@dataclass(frozen=True)
class Report:
    """Results of a table.

    Attributes:
        table: its rows and claims.
        values: row → one dict of metrics in percent per seed; rows without training have one.
        command: that makes the report.
    """

    table: Table
    values: Mapping[str, Sequence[Mapping[str, float]]]
    command: str

    def mean(self, row: str, metric: str) -> float:
        """Over seeds."""
        return float(np.mean([each[metric] for each in self.values[row]]))

    def deviation(self, row: str, metric: str) -> float:
        """Sample standard deviation over seeds; 0 of a single value."""
        found = [each[metric] for each in self.values[row]]
        return float(np.std(found, ddof=1)) if len(found) > 1 else 0.0

    def verdict(self, claim: Claim, metric: str) -> str:
        """Whether a claim holds in a metric: mean ± deviation apart, means alone, or not."""
        difference = self.mean(claim.better, metric) - self.mean(claim.worse, metric)
        spread = self.deviation(claim.better, metric) + self.deviation(claim.worse, metric)
        if not difference > 0:
            return NONE
        return CLEAR if difference > spread else WEAK

    def markdown(self) -> str:
        """The table, and a table of the paper's claims with what was found."""
        table = self.table
        rows = [
            [
                row.name,
                *(self._cell(row.name, metric) for metric in table.metrics),
                *(f"{value:.1f}" for value in row.published),
            ]
            for row in table.rows
        ]
        headers = ["percent", *table.metrics, *(f"published: {name}" for name in table.published)]
        claims = [
            [f"{claim.better} > {claim.worse}", *(self._finding(claim, metric) for metric in table.metrics)]
            for claim in table.claims
        ]
        return "\n".join(
            [
                f"## Table {table.number} reproduced in the nano world: {table.title}",
                "",
                f"`{self.command}`",
                "",
                tabulate(rows, headers, tablefmt="github", disable_numparse=True),
                "",
                f"What {table.source}, and whether this table does (mean of the differences):",
                "",
                tabulate(claims, ["claim", *table.metrics], tablefmt="github"),
                "",
            ]
        )

    def _cell(self, row: str, metric: str) -> str:
        mean = f"{self.mean(row, metric):.1f}"
        return f"{mean} ± {self.deviation(row, metric):.1f}" if len(self.values[row]) > 1 else mean

    def _finding(self, claim: Claim, metric: str) -> str:
        if metric not in claim.metrics:
            return ""
        difference = self.mean(claim.better, metric) - self.mean(claim.worse, metric)
        return f"{self.verdict(claim, metric)} ({difference:+.1f})"

    def draw(self) -> Figure:
        """Bars with deviations, a panel per metric."""
        metrics, rows = self.table.metrics, [row.name for row in self.table.rows]
        figure = Figure(figsize=(1.5 + 2.6 * len(metrics), 0.8 + 0.38 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            means = [self.mean(row, metric) for row in rows]
            axes.barh(rows, means, xerr=[self.deviation(row, metric) for row in rows], capsize=3, color="#4477aa")
            axes.set(xlabel=f"{metric}, %", xlim=(0, 1.15 * max(*means, math.ulp(1.0))))
            axes.grid(axis="x", alpha=0.3)
        panels[0].invert_yaxis()
        return figure

    def write(self, folder: Path) -> Path:
        """Write ``table<number>.md`` and ``.png``, each whole or not at all; returns the first."""
        path = folder / f"table{self.table.number}.md"
        with replacing(path) as file:
            file.write_text(self.markdown(), encoding="utf-8")
        with replacing(path.with_suffix(".png")) as file:
            self.draw().savefig(file, dpi=130)
        return path
