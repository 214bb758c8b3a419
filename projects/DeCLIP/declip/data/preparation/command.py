"""What the preparation command lines share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from d2host.engine import run_command
from d2host.engine.errors import DataError
from declip.data.root import dataset_root

Prepare = Callable[[Path, int], dict[str, int]]


def prepare_command(description: str, prepare: Prepare) -> None:
    """Parse the command line, prepare, and say what was made.

    Args:
        description: the script's documentation: source, expected tree, what is written, licence.
        prepare: takes the data root and a number of workers; returns how many files were made, by folder.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=dataset_root(), help="data root (default: DETECTRON2_DATASETS)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    arguments.num_gpus = 1
    run_command(lambda args: _prepare(args, prepare), arguments)


def _prepare(arguments: argparse.Namespace, prepare: Prepare) -> None:
    if not arguments.root.is_dir():
        raise DataError(f"the data root {arguments.root.absolute()} does not exist: create it, or give --root")
    for folder, count in prepare(arguments.root, max(arguments.workers, 1)).items():
        print(f"{folder}: {count} files made" if count else f"{folder}: complete already")
