#!/usr/bin/env python3
"""The paper's tables reproduced in the nano world: trained and evaluated over several seeds.

tools/reproduce.py --table 1 --scale nano
tools/reproduce.py --table all --seeds 3 --jobs 2 --output output/reproduce
tools/reproduce.py --table 1 --encoder nano-clip-12 --output output/reproduce12
tools/reproduce.py --table 4 --seeds 1 SOLVER.MAX_ITER 70

Prints each table with mean ± deviation and what it says about the published one, and writes Markdown and a plot. What
has been trained already, by this or an interrupted run with the same --output, is not trained again.
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.command import run_command
from nanoworld.datasets import SPLITS
from nanoworld.plugin import NANO, NANO_12
from nanoworld.reproduce.tables import TABLES, Row, RowKind, Table

if TYPE_CHECKING:
    from nanoworld.reproduce import Report, Runs, Subject


def main(args: argparse.Namespace) -> None:
    """Make the reports that are asked for."""
    from d2host import setup_logger
    from nanoworld.reproduce import SUBJECTS, Runs

    tables = [table for number, table in TABLES.items() if args.table in ("all", str(number))]
    rows = [row for table in tables for row in table.rows]
    subject = SUBJECTS[args.encoder]
    check_overrides(rows, subject, args.opts)
    setup_logger(str(args.output), name="catseg")
    folder = args.output / "runs" / subject.version()
    threads = max((os.cpu_count() or 1) // args.jobs, 1) if args.jobs > 1 else None
    tools, options = Path(__file__).resolve().parent, tuple(args.opts)
    runs = Runs(tools, folder, subject, args.dataset, options=options, threads=threads)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    runs.evaluate_all(rows, seeds, args.jobs)
    for table in tables:
        report = collect(table, runs, seeds)
        path = report.write(args.output)
        draw_segmenters(table, runs, seeds[0], path.with_name(f"{path.stem}_pictures.png"))
        logging.getLogger("catseg").info("%s, with a plot beside it:\n%s", path, report.markdown())


def check_overrides(rows: Sequence[Row], subject: "Subject", overrides: Sequence[str]) -> None:
    """Read the config of every training, so that none begins where a later one could not.

    Raises:
        ConfigError: a key is unknown, a value impossible, the encoder has no config for a row, or a package is missing.
    """
    from catseg.config import get_catseg_cfg
    from declip.distill import get_distillation_cfg
    from declip.teachers.diffusion.loading import check_extra
    from fvit.config import get_fvit_cfg

    readers = {
        RowKind.DISTILLED: get_distillation_cfg,
        RowKind.SEGMENTER: get_catseg_cfg,
        RowKind.DETECTOR: get_fvit_cfg,
    }
    for row in [*rows, *(row.encoder for row in rows if row.encoder)]:
        if row.kind in readers:
            cfg = readers[row.kind](subject.config(row.kind), [*row.options, *overrides])
            if row.kind is RowKind.DISTILLED and cfg.MODEL.DIFFUSION.NAME:
                check_extra(cfg.MODEL.DIFFUSION.NAME)


def collect(table: Table, runs: "Runs", seeds: Sequence[int]) -> "Report":
    """A table of what has been run."""
    from nanoworld.reproduce import Report

    values = {row.name: [runs.evaluate(row, seed) for seed in row.seeds_of(seeds)] for row in table.rows}
    return Report(table, values, shlex.join(["tools/reproduce.py", *sys.argv[1:]]))


def draw_segmenters(table: Table, runs: "Runs", seed: int, path: Path) -> None:
    """Predictions of a table's segmenters side by side, if it has any."""
    from nanoworld.reproduce import compare_predictions

    segmenters = [row for row in table.rows if row.kind is RowKind.SEGMENTER]
    if segmenters:
        predictions = {row.name: runs.segmenter_output(row, seed) for row in segmenters}
        compare_predictions(runs.dataset, predictions).savefig(path, dpi=110)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--table",
        required=True,
        choices=[*map(str, TABLES), "all"],
        help="number in the paper, or v2 of generalized DeCLIP (needs the extra [diffusion])",
    )
    add("--scale", default="nano", choices=["nano"], help="the world it is reproduced in (default: %(default)s)")
    add(
        "--encoder",
        default=NANO,
        choices=[NANO, NANO_12],
        help="whose tables; a nano-clip-12 has no shipped nano-DeCLIP to segment with (default: %(default)s)",
    )
    add(
        "--dataset",
        default="nano_final",
        choices=[*SPLITS],
        help="scenes to evaluate on, those of detectors excepted (default: %(default)s, by which nothing is chosen)",
    )
    add(
        "--seeds",
        type=arguments.positive,
        default=3,
        help="trainings per row, seeded from --first-seed on (default: %(default)s)",
    )
    add("--first-seed", type=arguments.seed, default=0, help="default: %(default)s")
    add(
        "--jobs",
        type=arguments.processes,
        default=1,
        help="trainings at a time, which share the CPU's cores (default: %(default)s)",
    )
    add("--output", type=arguments.output_folder, default=Path("output/reproduce"), help="default: %(default)s")
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides for every training, after all options")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
