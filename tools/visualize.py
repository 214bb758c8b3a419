#!/usr/bin/env python3
"""Look at a registered dataset: its images and labels side by side, as training would read them.

tools/visualize.py --dataset nano_train --count 6 --output nano.png
DETECTRON2_DATASETS=/data tools/visualize.py --dataset ade20k_150_test_sem_seg
"""

import argparse
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import DataError

PICTURES = (".png", ".jpg", ".pdf", ".svg")


def main(args: argparse.Namespace) -> None:
    """Write one figure with a row per image."""
    import numpy as np
    from tqdm import tqdm

    from declip.data.datasets import class_names, dataset_metadata, dataset_records
    from declip.data.reading import LabelFormat, check_same_size, read_image
    from declip.evaluation.visualizer import MOST_ROWS, Segmentation, draw, save_figure

    if args.count > MOST_ROWS:
        raise DataError(f"--count {args.count} is more than a figure holds: choose at most {MOST_ROWS}")
    class_names(args.dataset)
    records = dataset_records(args.dataset)
    metadata = dataset_metadata(args.dataset)
    labels = LabelFormat.of(metadata)
    chosen = np.linspace(0, len(records) - 1, min(args.count, len(records))).round().astype(int)
    rows = []
    for index in tqdm(chosen, unit="image"):
        sem_seg = labels.read(records[index]["sem_seg_file_name"])
        image = read_image(records[index]["file_name"])
        label_name = f"label file {records[index]['sem_seg_file_name']}"
        check_same_size(image.shape[:2], sem_seg.shape, records[index]["file_name"], label_name)
        rows.append(Segmentation.of(image, {"labels": np.where(sem_seg == labels.ignore_label, -1, sem_seg)}))
    colors = np.asarray(metadata.stuff_colors, dtype=np.float32)
    save_figure(draw(rows, metadata.stuff_classes, colors), args.output)
    print(f"{len(rows)} of {len(records)} images in {args.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="name of a registered dataset")
    parser.add_argument("--count", type=arguments.positive, default=6, help="images, spread evenly over the dataset")
    parser.add_argument(
        "--output", type=arguments.output_file(*PICTURES), default=Path("output/dataset.png"), help="the figure"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
