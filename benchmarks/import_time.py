#!/usr/bin/env python3
"""What each command line costs before it does anything: seconds, memory, and whether torch was imported.

benchmarks/import_time.py
benchmarks/import_time.py --repeats 5 tools/train_net.py datasets/prepare_voc.py

Runs ``--help`` of every program of tools/ and datasets/ in a process of its own, several times, and prints a Markdown
table of the fastest run. The baseline in the first row is an interpreter that does nothing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROBE = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    if sys.argv:
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{megabytes:.0f} {'torch' in sys.modules}", file=sys.stderr)
"""


def measure(arguments: list[str], repeats: int) -> tuple[float, int, bool]:
    """The fastest of several runs of a program: wall-clock seconds, peak megabytes, whether it imported torch.

    Raises:
        subprocess.CalledProcessError: the program fails.
    """
    runs = []
    for _ in range(repeats):
        started = time.perf_counter()
        command = [sys.executable, "-c", PROBE, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        megabytes, torch = result.stderr.split()[-2:]
        runs.append((seconds, int(megabytes), torch == "True"))
    return min(runs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", type=Path, help="default: all")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    programs = args.programs or sorted(
        path for room in ("tools", "datasets") for path in (REPOSITORY / room).rglob("*.py")
    )
    print("| program | seconds | MB | torch |\n|---|---:|---:|---|")
    for program in [None, *programs]:
        name = program.resolve().relative_to(REPOSITORY) if program else "(python alone)"
        seconds, megabytes, torch = measure([str(program), "--help"] if program else [], args.repeats)
        print(f"| {name} | {seconds:.2f} | {megabytes} | {'yes' if torch else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
