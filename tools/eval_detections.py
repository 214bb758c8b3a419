#!/usr/bin/env python3
"""Evaluate detections in COCO's results format, whoever made them, on a registered detection dataset.

tools/eval_detections.py --dataset ov_coco_val --results coco_instances_results.json
tools/eval_detections.py --dataset ov_lvis_val --results lvis_instances_results.json --masks --output output/mine

Category ids are the benchmark's own (COCO: 1 to 90, LVIS: 1 to 1203). Prints a table; with --output it leaves
results.json and a table of all classes in that folder.
"""

import argparse

from d2host.engine import arguments
from d2host.engine.command import run_command


def main(args: argparse.Namespace) -> None:
    """Evaluate and print."""
    from tabulate import tabulate

    from declip.evaluation.detection import DetectionEvaluator
    from declip.evaluation.detection.results_file import add_results

    tasks = ("segm",) if args.masks else ("bbox",)
    evaluator = DetectionEvaluator.of(args.dataset, tasks=tasks, output_folder=args.output)
    add_results(evaluator, args.results)
    (summary,) = evaluator.evaluate().values()
    rows = [[name, value] for name, value in summary.items() if "-" not in name]
    print(tabulate(rows, ["percent", args.dataset], tablefmt="github", floatfmt=".2f"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="registered name, such as ov_coco_val")
    parser.add_argument("--results", required=True, type=arguments.existing_file, help="a .json of detections")
    parser.add_argument("--masks", action="store_true", help="compare masks instead of boxes")
    parser.add_argument("--output", type=arguments.output_folder, help="folder for the tables")
    run_command(main, parser.parse_args())
