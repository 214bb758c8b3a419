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
    """The shortest of ``repeats`` runs in seconds, until a GPU is done, too, and what the last run returned."""
    finish = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    finish()
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        finish()
        best = min(best, time.perf_counter() - started)
    return best, result


def peak_memory(device: str = "cpu") -> float:
    """Most memory this process has held so far, GiB: its tensors' on a GPU, else its own, libraries included."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def training_step(model: nn.Module, batch: list[dict], device: str = "cpu") -> dict[str, float]:
    """One step (forward, backward, AdamW) of a model that gives losses by name: seconds, GiB before it and at most.

    On a GPU, whose first step loads kernels, the best of three.
    """
    before = peak_memory(device)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])

    def step() -> None:
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()

    seconds, _ = best_time(step, 3 if device == "cuda" else 1)
    return {"before": before, "peak": peak_memory(device), "seconds": seconds}


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


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]], device: str = "cpu") -> None:
    """Print a Markdown table, and the machine it is of."""
    from limit import machine  # which the interpreters of other projects' code may be unable to import

    print(f"\n{title}. {machine(device=device)}\n\n{tabulate(rows, headers, tablefmt='github', floatfmt='.3g')}\n")
