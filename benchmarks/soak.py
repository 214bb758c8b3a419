#!/usr/bin/env python3
"""A server's memory over many questions with changing vocabularies, asked by several threads.

Every question draws its classes from a thousand names and its image from fifty, more than what is kept of either.
Memory is the process's own, after a warm-up and after each tenth of the questions.
"""

import argparse
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from declip.app.desk import Desk
from declip.app.result import result_html
from declip.encoder_segmenter import load_segmenter
from measure import print_table

WORDS = ("red", "green", "blue", "old", "new", "wet", "dry", "tall", "small", "round")
THINGS = ("car", "tree", "road", "sky", "dog", "cat", "wall", "door", "lamp", "boat")
IMAGES, KEPT_NAMES = 50, 500


def main() -> None:
    """Ask, and print the memory by the number of questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    desk = Desk({args.model: load_segmenter(args.model, device="cpu")})
    desk.segmenters[args.model].embed.capacity = KEPT_NAMES
    names = [" ".join(parts) for parts in product(WORDS, WORDS, THINGS)]
    images = [np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8) for seed in range(IMAGES)]

    def ask(number: int) -> float:
        rng = np.random.default_rng(number)
        chosen = [names[index] for index in rng.choice(len(names), int(rng.integers(2, 30)), replace=False)]
        started = time.perf_counter()
        result_html(desk.segment(args.model, images[rng.integers(IMAGES)], chosen), args.model)
        return time.perf_counter() - started

    rows, part = [], max(args.requests // 10, 1)
    with ThreadPoolExecutor(args.threads) as pool:
        list(pool.map(ask, range(args.requests, args.requests + part)))
        rows.append(["warm-up", memory(), threading.active_count(), "", ""])
        for first in range(0, args.requests, part):
            times = sorted(pool.map(ask, range(first, min(first + part, args.requests))))
            rows.append([first + len(times), memory(), threading.active_count(), times[len(times) // 2], times[-1]])
    headers = ["questions", "memory MiB", "threads", "median s", "slowest s"]
    print_table(f"{args.requests} questions by {args.threads} threads, {args.model}", headers, rows)
    print(f"from the first tenth to the last: {rows[-1][1] - rows[1][1]:+d} MiB")


def memory() -> int:
    """What this process holds now, MiB."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise OSError("the system does not say how much memory a process holds")


if __name__ == "__main__":
    main()
