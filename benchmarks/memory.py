#!/usr/bin/env python3
"""Peak memory of CAT-Seg ViT-B, on a CPU libraries and weights included, each case in a process of its own.

Inference on one image with 150 and with 847 classes, all of them aggregated, and a training step of batch 4 with 171
classes.
"""

import argparse
import json

import torch

from measure import best_time, in_new_process, peak_memory, print_table, training_step
from whole_model import RUNS, build

TRAIN_CLASSES, BATCH = 171, 4


def inference(num_classes: int, device: str) -> dict:
    """Segment one image with every class aggregated."""
    model = build([f"thing number {index}" for index in range(num_classes)], device)
    model.sem_seg_head.aggregator.aggregate_all = True
    before = peak_memory(device)
    sample = {"image": torch.randint(0, 256, (3, 640, 854), dtype=torch.uint8), "height": 512, "width": 683}
    with torch.no_grad():
        seconds, _ = best_time(lambda: model.predict_labels([sample]), RUNS[device])
    return {"before": before, "peak": peak_memory(device), "seconds": seconds}


def training(device: str) -> dict:
    """One step of the published recipe: forward, backward, AdamW."""
    classes = [f"thing number {index}" for index in range(TRAIN_CLASSES)]
    model = build(classes, device).train()
    model.train_classes = tuple(classes)
    batch = [
        {
            "image": torch.randint(0, 256, (3, 384, 384), dtype=torch.uint8),
            "sem_seg": torch.randint(0, TRAIN_CLASSES, (384, 384)),
        }
        for _ in range(BATCH)
    ]
    return training_step(model, batch, device)


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help="training, or a number of classes: this case alone, as JSON")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    arguments = parser.parse_args()
    device = arguments.device
    if arguments.case:
        case = arguments.case
        print(json.dumps(training(device) if case == "training" else inference(int(case), device)))
        return
    cases = {"inference, 150 classes": 150, "inference, 847 classes": 847, "training step, 171 classes": "training"}
    rows = []
    for title, case in cases.items():
        result = in_new_process(__file__, "--case", case, "--device", device)
        rows.append([title, result["before"], result["peak"], result["seconds"]])
    print_table("Peak memory", ["case", "model loaded GiB", "peak GiB", "seconds"], rows, device)


if __name__ == "__main__":
    main()
