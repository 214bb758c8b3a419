#!/usr/bin/env python3
"""Memory that a list of ten million images takes, this process and two that load from it together.

A text list with paths such as ``00123/001234567.jpg``, read as a training reads it; then two loading processes go
through a part of it. Memory is the proportional set size (a page that n processes map counts 1/n for each) of all
three, less that of the same with an empty list. The baseline is a Python list of a path and a record for each image.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from itertools import islice
from pathlib import Path

from d2host.engine.loading import list_loader
from d2host.engine.sampler import ResumableSampler
from declip.data.image_list import ImageRecord
from declip.data.image_sources import list_images
from measure import in_new_process, peak_memory, print_table

WORKERS, LOOKED_AT = 2, 100_000


class Names:
    """The paths of a list's records, by what the sampler says."""

    def __init__(self, records: list) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, address: tuple[int, int]) -> str:
        return self.records[address[1]].path


def proportional_memory(process: int | str) -> int:
    """Bytes that a process holds, its share of what it shares."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def measure(path: str, plain: bool) -> dict:
    """Seconds to read the list, and bytes of all processes."""
    started = time.perf_counter()
    if plain:
        records = [ImageRecord(str(Path(path).parent / line)) for line in Path(path).read_text().splitlines()]
    else:
        records = list_images(path)
    seconds = time.perf_counter() - started
    sampler = ResumableSampler(len(records), seed=0, batch_size=64)
    batches = iter(list_loader(Names(records), WORKERS, batch_size=64, sampler=sampler))
    for _ in islice(batches, LOOKED_AT // 64):
        continue
    processes = ["self", *(child.pid for child in multiprocessing.active_children())]
    return {"seconds": seconds, "bytes": sum(map(proportional_memory, processes)), "peak": peak_memory()}


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--plain-images", type=int, default=1_000_000, help="of the baseline (default: %(default)s)")
    parser.add_argument("--case", nargs=2, metavar=("LIST", "KIND"), help="this list alone, ours or plain, as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case[0], arguments.case[1] == "plain")))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, count in (("plain", arguments.plain_images), ("ours", arguments.images)):
            results = []
            for number in (64, count):
                path = Path(folder) / f"{number}.txt"
                with open(path, "w") as file:
                    file.writelines(f"{index // 10_000:05d}/{index:09d}.jpg\n" for index in range(number))
                results.append(in_new_process(__file__, "--case", path, kind))
            empty, full = results
            rows.append(
                [
                    *("Python objects" if kind == "plain" else "ours", count, full["seconds"]),
                    *((full[key] - empty[key]) / count * scale for key, scale in (("bytes", 1), ("peak", 2**30))),
                ]
            )
    headers = [
        "list",
        "images",
        "seconds to read",
        "bytes an image, all processes",
        "bytes an image, peak of the first",
    ]
    print_table(f"A list of images, {1 + WORKERS} processes", headers, rows)


if __name__ == "__main__":
    main()
