#!/usr/bin/env python3
"""F-ViT ViT-B/16 on a CPU at 640 px with 65 classes: where an image's time goes, and what a training step takes.

The baseline of the first table is the frozen tower, without which there is no detector: what is stated is the share of
the detector's own parts. Weights are random: only time and memory mean something here.
"""

import argparse
import json
from functools import partial
from tempfile import TemporaryDirectory

import torch

import fvit.modeling  # noqa: F401 (registers the meta-architecture)
from d2host import Boxes, DatasetCatalog, Instances, MetadataCatalog, build_model
from d2host.engine.precision import Precision
from declip.data.class_lists import load_class_list
from fvit.config import get_fvit_cfg
from measure import best_time, in_new_process, print_table, training_step

SIZE, BATCH, OBJECTS = (480, 640), 2, 7
DATASET = "detection_benchmark"
REPEATS = 3  # of an image; the best counts


def build(*overrides: object) -> torch.nn.Module:
    """The model of ``fvit_ov_coco_vitb.yaml`` with random weights; texts are embedded beforehand, by name alone."""
    torch.manual_seed(0)
    classes = load_class_list("ov_coco_65")
    novel = [classes.index(name) for name in load_class_list("ov_coco_novel_17")]
    DatasetCatalog.register(DATASET, list)
    MetadataCatalog.get(DATASET).set(thing_classes=classes, novel_classes=novel)
    options = ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "random", "DATASETS.TRAIN", f"('{DATASET}',)"]
    cfg = get_fvit_cfg(
        "fvit_ov_coco_vitb.yaml", [*options, "MODEL.TEXT.PROMPTS", "name", "MODEL.TEXT.CACHE", "", *map(str, overrides)]
    )
    model = build_model(cfg).eval()
    model([{"image": torch.zeros(3, *SIZE)}])
    return model


def inference(precision: Precision) -> dict:
    """Seconds of the tower and of the whole model."""
    model, image = build(), torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    square = torch.randn(1, 3, model.images.side, model.images.side)
    with torch.inference_mode(), precision.autocast("cpu"):
        tower, _ = best_time(lambda: model.backbone(square), REPEATS)
        whole, _ = best_time(lambda: model([{"image": image}]), REPEATS)
    return {"tower": tower, "whole": whole}


def training(*overrides: object) -> dict:
    """One step: forward, backward, AdamW; a second one, so that a cache is full."""
    model = build(*overrides).train()
    taught = [label for label in range(len(model.classes)) if label not in model.untaught]
    corners = torch.rand(BATCH, OBJECTS, 2) * 300
    boxes = torch.cat([corners, corners + 20 + 150 * torch.rand(BATCH, OBJECTS, 2)], dim=2)
    batch = [
        {
            "image": torch.randint(0, 256, (3, 640, 640), dtype=torch.uint8),
            "instances": Instances((640, 640), gt_boxes=Boxes(some), gt_classes=torch.tensor(taught[:OBJECTS])),
        }
        for some in boxes
    ]
    model.encode(batch)
    return training_step(model, batch)


def cached_training() -> dict:
    """The same with the frozen encoder's maps of these images on disk."""
    with TemporaryDirectory() as folder:
        return training("MODEL.ENCODER.CACHE", folder, "INPUT.MIN_SCALE", 1.0, "INPUT.MAX_SCALE", 1.0)


CASES = {
    "fp32": partial(inference, Precision.FP32),
    "bf16": partial(inference, Precision.BF16),
    "training": training,
    "cached": cached_training,
}


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="this case alone, as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))
        return
    rows = []
    for case in ("fp32", "bf16"):
        found = in_new_process(__file__, "--case", case)
        own = 1 - found["tower"] / found["whole"]
        rows.append([case, found["tower"], found["whole"], f"{own:.0%}"])
    threads = torch.get_num_threads()
    print_table(f"One image, {threads} threads", ["precision", "tower s", "whole s", "detector's own share"], rows)
    rows = []
    for case in ("training", "cached"):
        step = in_new_process(__file__, "--case", case)
        rows.append([case, step["before"], step["peak"], step["seconds"]])
    headers = ["features", "model loaded GiB", "peak GiB", "seconds"]
    print_table(f"Training step of {BATCH} images", headers, rows)


if __name__ == "__main__":
    main()
