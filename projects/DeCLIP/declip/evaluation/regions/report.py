"""Tables and a plot of region accuracies over resolutions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from d2host.engine.atomic import replacing
from declip.evaluation.regions.accuracy import RegionAccuracy
from declip.evaluation.results import write_csv, write_results
from declip.evaluation.style import add_legend, line_style

GROUPS = ("things_mAcc", "stuff_mAcc")  # top-1 accuracy, mean over classes
Key = tuple[str, int]  # kind of feature (context type, method), and side of the image in pixels


def write_report(results: Mapping[Key, RegionAccuracy], class_names: Sequence[str], folder: Path) -> str:
    """Write ``results.{md,csv,json}``, ``per_class.csv`` and ``resolutions.png``; returns the table."""
    summaries = {key: accuracy.summary() for key, accuracy in results.items()}
    columns = list(next(iter(summaries.values())))
    counts = {key: int(accuracy.counts.sum()) for key, accuracy in results.items()}
    rows = [[*key, counts[key], *(summary[column] for column in columns)] for key, summary in summaries.items()]
    listed = [
        {"features": name, "side": side, "regions": counts[name, side], **summary}
        for (name, side), summary in summaries.items()
    ]
    table = write_results(folder, ["features", "pixels", "regions", *columns], rows, listed)
    classes = []
    for (name, side), accuracy in results.items():
        for index, class_name in enumerate(class_names):
            if accuracy.counts[index]:
                numbers = [round(values[index].item(), 4) for values in (accuracy.top1, accuracy.top5)]
                thing, count = int(accuracy.is_thing[index]), int(accuracy.counts[index])
                classes.append([name, side, class_name, thing, count, *numbers])
    headers = ["features", "pixels", "class", "thing", "regions", "top1", "top5"]
    write_csv(folder / "per_class.csv", headers, classes)
    with replacing(folder / "resolutions.png") as file:
        draw_resolutions(summaries).savefig(file, dpi=130)
    return table


def draw_resolutions(summaries: Mapping[Key, Mapping[str, float]], metrics: Sequence[str] = GROUPS) -> Figure:
    """Metrics over the side of the image, beside each other, a line per kind of feature that has them."""
    names = list(dict.fromkeys(name for name, _ in summaries))
    sides = sorted({side for _, side in summaries})
    figure = Figure(figsize=(4.2 * len(metrics) + 0.6, 3.6), layout="constrained")
    lines = {}
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, name in enumerate(names):
            points = [(side, summaries[name, side].get(metric)) for side in sides if (name, side) in summaries]
            points = [(side, value) for side, value in points if value is not None]
            if points:
                (lines[name],) = axes.plot(*zip(*points, strict=True), **line_style(number))
        axes.set_title(metric, parse_math=False)
        axes.set(xlabel="side of the image, pixels", ylabel="%", xticks=sides)
        axes.tick_params(axis="x", labelrotation=45 if len(sides) > 6 else 0)
        axes.grid(alpha=0.3)
    add_legend(figure, lines.items(), loc="outside lower center", ncols=3)
    return figure
