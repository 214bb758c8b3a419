"""Tables and a plot of region accuracies over resolutions."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate

from declip.evaluation.regions.classify import RegionAccuracy

Key = tuple[str, int]  # what was judged (context type, method), and at which side


def write_report(results: Mapping[Key, RegionAccuracy], class_names: Sequence[str], folder: Path) -> str:
    """Write ``results.{md,json}``, ``per_class.csv`` and ``resolutions.png``; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    summaries = {key: accuracy.summary() for key, accuracy in results.items()}
    columns = list(next(iter(summaries.values())))
    rows = [[name, side, *(summary[column] for column in columns)] for (name, side), summary in summaries.items()]
    table = tabulate(rows, ["features", "pixels", *columns], tablefmt="github", floatfmt=".2f")
    (folder / "results.md").write_text(table + "\n", encoding="utf-8")
    listed = [{"features": name, "side": side, **summary} for (name, side), summary in summaries.items()]
    (folder / "results.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    _write_classes(results, class_names, folder / "per_class.csv")
    draw_resolutions(summaries).savefig(folder / "resolutions.png", dpi=130)
    return table


def _write_classes(results: Mapping[Key, RegionAccuracy], class_names: Sequence[str], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["features", "pixels", "class", "thing", "regions", "top1", "top5"])
        for (name, side), accuracy in results.items():
            for index, class_name in enumerate(class_names):
                if accuracy.counts[index]:
                    numbers = [f"{values[index]:.4f}" for values in (accuracy.top1, accuracy.top5)]
                    thing, count = int(accuracy.is_thing[index]), int(accuracy.counts[index])
                    writer.writerow([name, side, class_name, thing, count, *numbers])


def draw_resolutions(summaries: Mapping[Key, Mapping[str, float]]) -> Figure:
    """Top-1 accuracy over the side of the image, things and stuff beside each other, a line per kind of feature."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    names = list(dict.fromkeys(name for name, _ in summaries))
    sides = sorted({side for _, side in summaries})
    for axes, group in zip(figure.subplots(1, 2), ("things", "stuff"), strict=True):
        for name in names:
            points = [(side, summaries[name, side][f"{group}_mAcc"]) for side in sides if (name, side) in summaries]
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=group, xlabel="longer side, pixels", ylabel="top-1 mean accuracy, %", xticks=sides)
        axes.grid(alpha=0.3)
    axes.legend()
    return figure
