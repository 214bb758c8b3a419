"""Timing and memory for the benchmarks."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn


def best_time(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The shortest of ``repeats`` runs in seconds, and what the last run returned."""
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - started)
    return best, result


def peak_memory() -> float:
    """Most memory this process has held so far, libraries included, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def training_step(model: nn.Module, batch: list[dict]) -> dict[str, float]:
    """One step (forward, backward, AdamW) of a model that gives losses by name: seconds, GiB before it and at most."""
    before = peak_memory()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])

    def step() -> None:
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()

    seconds, _ = best_time(step, 1)
    return {"before": before, "peak": peak_memory(), "seconds": seconds}


def in_new_process(
    script: str | Path, *arguments: object, python: str = sys.executable, imports: Sequence[Path] = ()
) -> dict:
    """Run a script that prints one line of JSON last, so that its peak memory is its own.

    Args:
        script, arguments: the program.
        python: its interpreter.
        imports: folders that it imports from besides.
    """
    command = [python, str(script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, imports))} if imports else None
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.strip().splitlines()[-1])


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table, and the machine it is of."""
    from limit import machine  # which the interpreters of other projects' code may be unable to import

    print(f"\n{title}. {machine()}\n\n{tabulate(rows, headers, tablefmt='github', floatfmt='.3g')}\n")
