#!/usr/bin/env python3
"""Images a second that loading processes give a training, and what of a GPU's step is spent waiting for them.

Photos of 640×480 pixels as JPEG, labels of 171 classes as PNG. CAT-Seg's sample: shorter side 384, a crop of 384,
colours distorted, flipped half of the time. Distillation: views of 560 px for the student and 490 for the foundation
model, and up to 36 crops of 224. The baselines draw the same and do it image after image by PIL and numpy: every array
whole, label maps as 64-bit numbers, colours in float32, classes of a crop counted by sorting.

The wait is measured with a step of 0.25 s for a batch of 4, during which this process sleeps as it would while a GPU
computes.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from catseg.loader import TrainDataset
from catseg.mapper import TrainMapper
from d2host.engine.loading import endless_loader
from declip.data.image_list import ImageRecord
from declip.data.reading import LabelFormat
from declip.distill.dataset import DistillationDataset
from declip.distill.views import DistillationViews, ViewSizes, draw_grid, grid_boxes
from measure import print_table

WIDTH, HEIGHT, CLASSES, SIDE, PHOTOS = 640, 480, 171, 384, 16
VIEWS = ViewSizes(student=560, student_patch=16, foundation_patch=14, crop=224)
BATCH, STEP = 4, 0.25  # images, seconds


def photos(folder: Path) -> list[dict]:
    """Files of photos with texture and noise, and their labels."""
    rng, records = np.random.default_rng(0), []
    for index in range(PHOTOS):
        files = {"file_name": str(folder / f"{index}.jpg"), "sem_seg_file_name": str(folder / f"{index}.png")}
        coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
        noisy = np.asarray(coarse.resize((WIDTH, HEIGHT))) + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(files["file_name"], quality=90)
        labels = np.kron(rng.integers(0, CLASSES, (HEIGHT // 32, WIDTH // 32)), np.ones((32, 32)))
        Image.fromarray(labels.astype(np.uint8)).save(files["sem_seg_file_name"])
        records.append(files)
    return records


def plain_sample(record: dict, rng: np.random.Generator) -> dict:
    """CAT-Seg's sample by PIL and numpy."""
    image = np.asarray(ImageOps.exif_transpose(Image.open(record["file_name"])).convert("RGB"))
    labels = np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.int64)
    height, width = image.shape[:2]
    size = round(width * SIDE / min(height, width)), round(height * SIDE / min(height, width))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)).astype(
        np.int64
    )
    top, left = (int(rng.integers(have - SIDE + 1)) for have in labels.shape)
    image, labels = (each[top : top + SIDE, left : left + SIDE] for each in (image, labels))
    np.unique(labels, return_counts=True)
    image = image.astype(np.float32)
    brightness, contrast, saturation, hue, flip, *_ = rng.random(8) < 0.5
    if brightness:
        image = (image + rng.uniform(-32, 32)).clip(0, 255)
    if contrast:
        image = (image * rng.uniform(0.5, 1.5)).clip(0, 255)
    if saturation or hue:
        hsv = np.array(Image.fromarray(image.astype(np.uint8)).convert("HSV")).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + (rng.uniform(-25, 25) if hue else 0)) % 256
        hsv[..., 1] = (hsv[..., 1] * (rng.uniform(0.5, 1.5) if saturation else 1)).clip(0, 255)
        image = np.asarray(Image.fromarray(hsv.astype(np.uint8), mode="HSV").convert("RGB"))
    image, labels = (each[:, ::-1] if flip else each for each in (image.astype(np.uint8), labels))
    tensors = {"image": image.transpose(2, 0, 1), "sem_seg": labels}
    return {**record, **{key: torch.from_numpy(np.ascontiguousarray(each)) for key, each in tensors.items()}}


class PlainViews(Dataset):
    """Distillation's views by PIL."""

    def __init__(self, records: list[dict]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, address: tuple[int, int]) -> dict:
        image = ImageOps.exif_transpose(Image.open(self.records[address[1]]["file_name"])).convert("RGB")
        rows, columns = VIEWS.grid(image.height, image.width)
        sides = {"student": VIEWS.student_patch, "foundation": VIEWS.foundation_patch}
        boxes = grid_boxes(image.height, image.width, *draw_grid(np.random.default_rng(address), 6, 36))
        views = {key: resized(image, (columns * patch, rows * patch)) for key, patch in sides.items()}
        crops = [resized(image.crop(tuple(box)), (VIEWS.crop,) * 2) for box in boxes.round().int().tolist()]
        return {**views, "crops": torch.stack(crops), "boxes": boxes}


def resized(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """3×H×W uint8, bicubic."""
    return torch.from_numpy(np.array(image.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1).copy())


def measure(dataset: Dataset, workers: int, images: int) -> tuple[float, float]:
    """Images a second, and seconds of waiting in a step."""
    options = {"seed": 0, "images_per_batch": BATCH, "accumulation_steps": 1, "num_workers": workers}
    loader: Iterator[list[dict]] = iter(endless_loader(dataset, **options, start_iter=0))
    for _ in islice(loader, 4 * workers):  # until all processes are there, and their queues full
        continue
    started = time.perf_counter()
    for _ in islice(loader, images // BATCH):
        continue
    speed = images / (time.perf_counter() - started)
    waited = 0.0
    for step in range(22):
        fetching = time.perf_counter()
        next(loader)
        waited += time.perf_counter() - fetching if step >= 2 else 0.0
        time.sleep(STEP)
    return speed, waited / 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes that load (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1200, help="that the speed is measured on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records = photos(Path(folder))
        mapper = TrainMapper(LabelFormat(CLASSES), (SIDE,), 2048, (SIDE, SIDE))
        images = [ImageRecord(record["file_name"]) for record in records]
        cases = {
            "CAT-Seg": (TrainDataset(records, plain_sample, 0), TrainDataset(records, mapper, 0)),
            "distillation": (PlainViews(records), DistillationDataset(images, DistillationViews(VIEWS), 0)),
        }
        rows = []
        for name, datasets in cases.items():
            results = [measure(dataset, arguments.workers, arguments.images) for dataset in datasets]
            for kind, (speed, waited) in zip(("PIL and numpy", "ours"), results, strict=True):
                faster = f"{speed / results[0][0]:.1f}x"
                rows.append([f"{name}, {kind}", speed, faster, 1000 * waited, f"{waited / (waited + STEP):.1%}"])
    headers = ["loader", "images/s", "faster", "waiting in a step, ms", "data_time, share"]
    print_table(f"{arguments.workers} loading processes, photos of {WIDTH}x{HEIGHT}, batch {BATCH}", headers, rows)


if __name__ == "__main__":
    main()
