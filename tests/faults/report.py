"""All cases in processes of limited memory and time, and a table of what came of them.

python -m tests.faults                     everything: minutes to hours
python -m tests.faults --only demo         cases whose name begins so
python -m tests.faults --sample 200        that many, drawn at random
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from multiprocessing.connection import wait
from pathlib import Path

from tests.faults.cases import all_cases
from tests.faults.outcomes import GOOD, KINDS, Outcome, run_case
from tests.faults.world import make_world

GIGABYTE = 1024**3
MOST_MEMORY = 3  # GB that a case may take
SECONDS, PATIENCE = 60, 120  # of a case, from within and from without


def main():
    """Run, and print the table and what is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginning of the names")
    parser.add_argument("--containing", default="", help="part of the names")
    parser.add_argument("--sample", type=int, default=0, help="how many, at random; 0: all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a line of JSON for each case")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        environment = make_world(make_folder(folder / "world"))
        names = [n for n in all_cases() if n.startswith(args.only) and args.containing in n]
        if args.sample:
            names = random.Random(0).sample(names, min(args.sample, len(names)))
        with open(args.output or os.devnull, "w", encoding="utf-8") as log:

            def report(name, outcome):
                print(json.dumps([name, outcome.kind, outcome.detail]), file=log, flush=True)

            outcomes = run_all(names, folder, environment, args.jobs, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    for name, outcome in outcomes.items():
        if outcome.kind not in GOOD:
            print(f"- {outcome.kind} | {name} | {outcome.detail[:300]}")


def make_folder(folder):
    """The folder, made."""
    folder.mkdir(parents=True)
    return folder


def table(outcomes):
    """Markdown: commands by kinds of outcome."""
    counts = defaultdict(Counter)
    for name, outcome in outcomes.items():
        spoilt = " (bytes)" if " spoilt " in name else ""
        for row in (name.split(":")[0] + spoilt, "all"):
            counts[row][outcome.kind] += 1
    rows = [["command", "cases", *KINDS]]
    rows += [[row, sum(count.values()), *(count[kind] for kind in KINDS)] for row, count in counts.items()]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def run_all(names, folder, environment, jobs, report=lambda name, outcome: None):
    """Outcomes by name, from ``jobs`` processes at a time; one that dies or hangs is replaced.

    Args:
        report: called with name and outcome as they come.
    """
    context = multiprocessing.get_context("spawn")
    shares = [share for share in (names[start::jobs] for start in range(jobs)) if share]
    running = {}
    outcomes = {}

    def settle(share, name, outcome):
        share.remove(name)
        outcomes[name] = outcome
        report(name, outcome)

    while shares or running:
        for share in shares:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(share, folder, environment, there))
            process.start()
            there.close()
            running[here] = process, share, time.monotonic()
        shares = []
        ready = wait(list(running), timeout=1)
        for pipe, (process, share, since) in list(running.items()):
            try:
                if pipe in ready:
                    settle(share, *pipe.recv())
                    running[pipe] = process, share, time.monotonic()
                elif time.monotonic() - since > PATIENCE:
                    process.kill()
                    process.join()
                    settle(share, share[0], Outcome("hang", f"longer than {PATIENCE} s, deaf to signals"))
                    shares.append(share)
            except EOFError:
                process.join()
                kind = "traceback" if process.exitcode > 0 else "memory"
                settle(share, share[0], Outcome(kind, f"the process ended with status {process.exitcode}"))
                shares.append(share)
            if not share or share in shares:
                del running[pipe]
                process.join()
        shares = [share for share in shares if share]
    return outcomes


def work(names, folder, environment, pipe):
    """Run cases one after the other and send their outcomes."""
    resource.setrlimit(resource.RLIMIT_AS, (14 * GIGABYTE, 14 * GIGABYTE))
    cases = all_cases()
    own = Path(tempfile.mkdtemp(dir=folder))
    for name in names:
        place = Path(tempfile.mkdtemp(dir=own)) / "case"
        start = peak_memory(reset=True)
        outcome = run_case(cases[name], folder / "world", environment, place, SECONDS)
        used = (peak_memory() - start) / GIGABYTE
        if used > MOST_MEMORY:
            outcome = Outcome("memory", f"{used:.1f} GB; {outcome.kind}: {outcome.detail}")
        shutil.rmtree(place.parent, ignore_errors=True)
        pipe.send((name, outcome))


def peak_memory(reset=False):
    """Most bytes this process has held, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
