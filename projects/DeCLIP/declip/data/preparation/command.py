"""What the preparation command lines share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from d2host.engine import arguments, run_command
from d2host.engine.errors import DataError
from declip.data.benchmarks import FOLDER_DATASETS
from declip.data.detection.benchmarks import DETECTION_DATASETS
from declip.data.preparation.check import COUNT, FOLDERS, check_dataset, report
from declip.data.preparation.check_detection import MISSING, check_detection
from declip.data.root import dataset_root

Prepare = Callable[[Path, int], dict[str, int]]


def prepare_command(description: str, prepare: Prepare) -> None:
    """Parse the command line, prepare, say what was made, and check it.

    Args:
        description: the script's documentation: source, expected tree, what is written, licence.
        prepare: takes the data root and a number of workers; returns how many files were made, by folder.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=arguments.existing_folder, help="data root (default: DETECTRON2_DATASETS)")
    parser.add_argument("--workers", type=arguments.processes, default=os.cpu_count() or 1, help="processes")
    run_command(lambda args: _prepare(args, prepare), parser.parse_args())


def _prepare(args: argparse.Namespace, prepare: Prepare) -> None:
    root = args.root or dataset_root()
    if not os.path.isdir(root):
        raise DataError(f"the data root {root.absolute()} does not exist: create it, or give --root")
    made = prepare(root, args.workers)
    for folder, count in made.items():
        print(f"{folder}: {count} files made" if count else f"{folder}: complete already")
    checks = [
        check_dataset(name, dataset, args.workers, decode=False, root=root)
        for name, dataset in FOLDER_DATASETS.items()
        if any(Path(dataset.labels).is_relative_to(folder) for folder in made) and os.path.isdir(root / dataset.labels)
    ]
    checks += [
        check_detection(name, dataset, args.workers, quick=True, root=root)
        for name, dataset in DETECTION_DATASETS.items()
        if dataset.records in made
    ]
    faults = [fault for check in checks for fault in check.faults]
    if faults:
        print(report(checks))
    if any(fault.kind not in (COUNT, FOLDERS, MISSING) for fault in faults):  # a part of a benchmark may be meant
        raise DataError("what was prepared has the faults of the table above: get the files that it names again")
