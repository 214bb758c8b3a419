"""Results on disk: JSON, CSV and Markdown, each file whole or not at all, and no number that is none."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from d2host.engine.atomic import replacing


def write_results(folder: Path, headers: Sequence[str], rows: Sequence[Sequence[Any]], content: Any) -> str:
    """Write a table as ``results.md`` (two decimals) and ``results.csv``, and everything as ``results.json``.

    Args:
        folder: made if need be.
        headers, rows: of the table; numbers that are not finite are left out of it.
        content: of the JSON file: mappings, sequences, texts and numbers.

    Returns:
        The table in Markdown.

    Raises:
        OSError: a file cannot be written.
    """
    rows = finite(rows)
    table = tabulate(rows, headers, tablefmt="github", floatfmt=".2f", missingval="-")
    with replacing(folder / "results.md") as file:
        file.write_text(table + "\n", encoding="utf-8")
    write_csv(folder / "results.csv", headers, rows)
    write_json(folder / "results.json", content)
    return table


def write_json(path: Path, content: Any) -> None:
    """Write what readers of strict JSON accept: see :func:`finite`."""
    with replacing(path) as file:
        file.write_text(json.dumps(finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a line of headers; None is an empty cell."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(headers)
        writer.writerows(rows)


def finite(content: Any) -> Any:
    """The same with None for every number that is not finite, such as the IoU of a class that does not occur.

    >>> finite({"mIoU": 31.5, "IoU-cat": float("nan"), "sides": (224, 336)})
    {'mIoU': 31.5, 'IoU-cat': None, 'sides': [224, 336]}
    """
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
