#!/usr/bin/env python3
"""Time that the evaluator takes per image: 2,000 synthetic ADE-sized predictions and label files.

Label files are PNGs of blocks, as large as ADE20K's typical images; a few distinct ones are read over and over. The
baseline counts with a comparison per class, as the definition of IoU reads. Counting takes one thread; predictions that
are saved are written by another beside it.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from declip.data.reading import LabelFormat
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from measure import best_time, print_table

HEIGHT, WIDTH, NUM_CLASSES, DISTINCT = 512, 683, 150, 8


def block_labels(rng: np.random.Generator) -> np.ndarray:
    """H×W labels of 32-pixel blocks."""
    blocks = rng.integers(0, NUM_CLASSES, (HEIGHT // 32 + 1, WIDTH // 32 + 1))
    return np.kron(blocks, np.ones((32, 32), np.int64))[:HEIGHT, :WIDTH]


def plain(prediction: np.ndarray, path: str) -> np.ndarray:
    """Intersections and unions of one image, class by class."""
    labels = np.asarray(Image.open(path)).astype(np.int64)
    ious = []
    for index in range(NUM_CLASSES):
        predicted, labelled = prediction == index, labels == index
        ious.append((predicted & labelled).sum() / max((predicted | labelled).sum(), 1))
    return np.array(ious)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        samples, outputs = [], []
        for index in range(DISTINCT):
            path = Path(folder) / f"{index}.png"
            Image.fromarray(block_labels(rng).astype(np.uint8)).save(path)
            samples.append({"file_name": str(path), "sem_seg_file_name": str(path)})
            outputs.append({"sem_seg": torch.from_numpy(block_labels(rng))})
        names = [f"class {index}" for index in range(NUM_CLASSES)]
        evaluators = {
            "evaluator": SemSegEvaluator(names, LabelFormat(NUM_CLASSES)),
            "evaluator, predictions saved": SemSegEvaluator(
                names, LabelFormat(NUM_CLASSES), output_folder=folder, save_predictions=True
            ),
        }

        def run(evaluator: SemSegEvaluator) -> None:
            for index in range(arguments.images):
                sample = {**samples[index % DISTINCT], "image_id": f"{index % DISTINCT}"}
                evaluator.process([sample], [outputs[index % DISTINCT]])
            evaluator.evaluate()

        times = {name: best_time(partial(run, evaluator), 1)[0] for name, evaluator in evaluators.items()}
        slow, _ = best_time(lambda: plain(outputs[0]["sem_seg"].numpy(), samples[0]["sem_seg_file_name"]), 3)
    rows = [["class by class", 1000 * slow, 1 / slow, "1.0x"]]
    for name, seconds in times.items():
        ours = seconds / arguments.images
        rows.append([name, 1000 * ours, 1 / ours, f"{slow / ours:.0f}x"])
    headers = ["", "ms per image", "images/s", "faster"]
    print_table(f"{arguments.images} images of {HEIGHT}x{WIDTH}, {NUM_CLASSES} classes", headers, rows)


if __name__ == "__main__":
    main()
