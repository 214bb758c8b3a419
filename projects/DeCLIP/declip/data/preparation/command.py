"""What the preparation command lines share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from d2host.engine import arguments, run_command
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
    root = arguments.existing_folder
    parser.add_argument("--root", type=root, default=dataset_root(), help="data root (default: DETECTRON2_DATASETS)")
    parser.add_argument("--workers", type=arguments.processes, default=os.cpu_count() or 1, help="processes")
    run_command(lambda args: _prepare(args, prepare), parser.parse_args())


def _prepare(args: argparse.Namespace, prepare: Prepare) -> None:
    if not args.root.is_dir():
        raise DataError(f"the data root {args.root.absolute()} does not exist: create it, or give --root")
    for folder, count in prepare(args.root, args.workers).items():
        print(f"{folder}: {count} files made" if count else f"{folder}: complete already")
