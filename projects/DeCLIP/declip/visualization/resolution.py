"""Accuracy over the size of the input, from the results that evaluations leave (DeCLIP, Figure 6)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from d2host.engine.errors import DataError
from declip.data.text_files import read_json
from declip.evaluation.regions.report import GROUPS, Key, draw_resolutions

RESULTS = "results.json"
SHOWN = 12  # metrics that a message names
REMEDY = "give the output folder of an evaluation, or its results.json"

Summaries = dict[Key, dict[str, float]]


def read_results(title: str, path: str | Path, side: int | None = None) -> Summaries:
    """What an evaluation found, by (curve, side of the image in pixels) and metric.

    Args:
        title: how the curves' names begin; what features or context they are of follows.
        path: output folder of ``tools/eval_regions.py``, ``tools/eval_dense.py`` or ``tools/train_net.py``, or its
            ``results.json``.
        side: what the images were resized to, for results that do not say it: all but those of regions.

    Returns:
        (curve, side) → metric, such as ``things_mAcc`` or ``nano_val mIoU`` → percent.

    Raises:
        DataError: there are no such results, the side has to be given, or they say another one.
    """
    path = Path(path)
    path = path / RESULTS if os.path.isdir(path) else path
    content, found = read_json(path, "results file", REMEDY), {}
    if isinstance(content, list):
        for row in content:
            features, own = (row.get("features"), row.get("side")) if isinstance(row, dict) else (None, None)
            if not isinstance(features, str) or not isinstance(own, int):
                raise DataError(f"results file {path} has a row without 'features' and 'side': {REMEDY}")
            numbers = {name: float(value) for name, value in row.items() if "mAcc" in name and _is_number(value)}
            found[f"{title}: {features}", own] = numbers
        if found and side is not None and side not in {own for _, own in found}:
            raise DataError(f"results file {path} says itself of which sizes it is, none is {side}: leave {side}= out")
    else:
        for names, value in _numbers(content):
            *context, dataset, metric = names if len(names) > 1 else ("", "")
            if metric and not metric.startswith("IoU-"):
                curve = ": ".join([title, *context])
                found.setdefault((curve, side), {})[f"{dataset} {metric}"] = value
        if found and side is None:
            raise DataError(f"results file {path} does not say the size of the images: give it, as 448={path.parent}")
    if not any(found.values()):
        raise DataError(f"results file {path} holds no results: {REMEDY}")
    return found


def _numbers(content: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Numbers in objects within objects, with the names that lead to them."""
    if isinstance(content, dict) and len(names) < 3:
        for name, each in content.items():
            yield from _numbers(each, (*names, name))
    elif _is_number(content):
        yield names, float(content)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def resolution(
    results: Mapping[str, str | Path | Mapping[int, str | Path]], metrics: Sequence[str] | None = None
) -> Figure:
    """A figure of accuracies over the size of the input, a panel per metric.

    Args:
        results: title → output folder of an evaluation; or, where results do not say their size, side of the images in
            pixels → folder.
        metrics: what is drawn, such as ``things_mAcc`` or ``nano_val mIoU``; None: top-1 accuracy of things and stuff,
            or each dataset's mIoU.

    Raises:
        DataError: results are unreadable or lack a metric, see :func:`read_results`.

    >>> import json
    >>> from declip.visualization import resolution
    >>> for side, value in ((224, 20.5), (448, 31.5)):
    ...     _ = Path(f"{side}.json").write_text(json.dumps({"qk": {"ade20k": {"mIoU": value}}}))
    >>> resolution({"DeCLIP": {224: "224.json", 448: "448.json"}}).savefig("resolution.png")
    """
    found: Summaries = {}
    for title, paths in results.items():
        for side, path in (paths if isinstance(paths, Mapping) else {None: paths}).items():
            for key, numbers in read_results(title, path, side).items():
                found.setdefault(key, {}).update(numbers)
    known = list(dict.fromkeys(name for numbers in found.values() for name in numbers))
    chosen = [name for name in known if name in GROUPS or name.endswith(" mIoU")] if metrics is None else metrics
    for name in chosen or GROUPS[:1]:
        if name not in known:
            raise DataError(f"no results have a metric '{name}': choose among {', '.join(known[:SHOWN])}")
    return draw_resolutions(found, chosen)
