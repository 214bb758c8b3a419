"""A small registered dataset: three labelled images, one of them partly ignored."""

import numpy as np
import pytest
from PIL import Image

from d2host import DatasetCatalog, MetadataCatalog

NAME = "evaluation_test_images"


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for index, size in enumerate([(8, 10), (12, 9), (7, 7)]):
        labels = rng.choice([0, 1, 2, 255], size).astype(np.uint8)
        files = tmp_path / f"{index}.png", tmp_path / f"{index}_labels.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(files[0])
        Image.fromarray(labels).save(files[1])
        record = {"file_name": str(files[0]), "sem_seg_file_name": str(files[1]), "image_id": f"image{index}"}
        made.append({**record, "height": size[0], "width": size[1], "labels": labels.astype(np.int64)})
    DatasetCatalog.register(NAME, lambda: made)
    MetadataCatalog.get(NAME).set(
        stuff_classes=["a", "b, bee", "c", "d"],
        stuff_colors=[(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)],
        ignore_label=255,
        class_groups={"seen": [0, 1], "unseen": [2, 3]},
    )
    yield made
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
