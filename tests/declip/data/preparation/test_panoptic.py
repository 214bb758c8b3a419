import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.preparation.panoptic import TARGET, prepare_coco_panoptic
from declip.evaluation.regions import load_region_set

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "coco"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "coco/annotations/panoptic_val2017"
    folder.mkdir(parents=True)
    ids = np.zeros((20, 20), np.int64)
    ids[:, 10:], ids[:2, :2] = 70000, 3
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(folder / "1.png")
    segments = [
        {"id": 70000, "category_id": 1, "bbox": [10, 0, 10, 20], "area": 200, "iscrowd": 0},
        {"id": 3, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0},
        {"id": 0, "category_id": 2, "bbox": [0, 0, 10, 20], "area": 196, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
    }
    folder.with_suffix(".json").write_text(json.dumps(content))
    return tmp_path


def test_crowds_and_tiny_regions_are_left_out(root):
    assert prepare_coco_panoptic(root, 1) == {TARGET: 1}
    regions = load_region_set(str(root / TARGET), str(root / "coco/val2017"))
    assert [image.boxes.tolist() for image in regions.images] == [[[10, 0, 20, 20]]]
    assert prepare_coco_panoptic(root, 1) == {TARGET: 0}


def test_a_label_image_without_a_listed_segment_is_named(root):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "coco/annotations/panoptic_val2017/1.png")
    with pytest.raises(DataError, match=r"1\.png lacks segment 70000 that its annotation lists"):
        prepare_coco_panoptic(root, 1)
    assert not (root / TARGET).exists()


def test_a_missing_download_says_what_to_unpack(tmp_path):
    with pytest.raises(DataError, match="does not exist: unpack panoptic_annotations_trainval2017"):
        prepare_coco_panoptic(tmp_path, 1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real COCO samples are not here")
def test_real_coco_annotations_become_regions(tmp_path):
    shutil.copytree(SHARED / "annotations", tmp_path / "coco/annotations")
    prepare_coco_panoptic(tmp_path, 1)
    regions = load_region_set(str(tmp_path / TARGET), str(SHARED / "val2017"))
    assert len(regions.images) == 2 and len(regions.class_names) == 133
    for image in regions.images:
        with Image.open(image.file_name) as picture:
            assert (image.boxes[:, 2] <= picture.width).all() and (image.boxes[:, 3] <= picture.height).all()
