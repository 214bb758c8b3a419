#!/usr/bin/env python3
"""Check prepared datasets: counts against the published numbers, pairs, sizes, label values, unreadable files.

datasets/check_datasets.py                                     everything whose folder is there
datasets/check_datasets.py ade20k_150_test_sem_seg --quick     one dataset, without opening its files

Prints a table of all faults and ends with status 2 where there are any.
"""

import argparse
import os

from d2host.engine import arguments, run_command
from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.detection.benchmarks import DETECTION_DATASETS
from declip.data.preparation.check import check_dataset, report
from declip.data.preparation.check_detection import check_detection
from declip.data.root import dataset_root


def main(args: argparse.Namespace) -> None:
    """Check and print."""
    known = [*FOLDER_DATASETS, *DETECTION_DATASETS]
    unknown = [name for name in args.datasets if name not in known]
    if unknown:
        raise DataError(f"dataset '{unknown[0]}' is unknown: choose among {', '.join(known)}")
    root = dataset_root()
    present = [name for name, dataset in FOLDER_DATASETS.items() if os.path.isdir(root / dataset.labels)]
    present += [name for name, dataset in DETECTION_DATASETS.items() if os.path.isfile(root / dataset.records)]
    chosen = args.datasets or present
    if not chosen:
        raise DataError(f"no prepared dataset in {root.absolute()}: set DETECTRON2_DATASETS, or name one to check")
    checks = [
        check_dataset(name, FOLDER_DATASETS[name], args.workers, args.quick)
        if name in FOLDER_DATASETS
        else check_detection(name, DETECTION_DATASETS[name], args.workers, args.quick)
        for name in chosen
    ]
    print(report(checks))
    faulty = [check.name for check in checks if check.faults]
    if faulty:
        raise DataError(f"{len(faulty)} of {len(checks)} datasets have the faults of the table above: get them again")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", help="registered names (default: all that are there)")
    parser.add_argument("--quick", action="store_true", help="count and pair files without opening them")
    parser.add_argument("--workers", type=arguments.processes, default=os.cpu_count() or 1, help="processes")
    run_command(main, parser.parse_args())
