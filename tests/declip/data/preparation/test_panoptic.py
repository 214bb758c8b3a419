import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.preparation.panoptic import TARGET, prepare_coco_panoptic
from declip.evaluation.regions import load_region_set

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"


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


def change_ids(root, change):
    path = root / "coco/annotations/panoptic_val2017/1.png"
    with Image.open(path) as image:
        colors = np.array(image)
    Image.fromarray(change(colors)).save(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda colors: np.where(np.arange(20)[:, None, None] == 19, 9, colors), "holds segment 592137, which its"),
        (lambda colors: np.roll(colors, 2, axis=0)[:, 1:], r"is 19x20, its annotation is for 20x20"),
        (lambda colors: np.repeat(colors, 2, axis=1), r"is 40x20, its annotation is for 20x20"),
        (
            lambda colors: np.concatenate([colors[:, 1:], colors[:, -1:]], axis=1),
            r"1\.png has 220 pixels, its annotation says 200",
        ),
        (lambda colors: colors[..., 0], "is no RGB image of 8 bits"),
    ],
)
def test_a_label_image_of_another_annotation_is_refused(root, change, sentence):
    source = root / "coco/annotations/panoptic_val2017.json"
    content = json.loads(source.read_text())
    content["images"][0] |= {"height": 20, "width": 20}
    source.write_text(json.dumps(content))
    change_ids(root, lambda colors: np.asarray(change(colors), np.uint8))
    with pytest.raises(DataError, match=sentence):
        prepare_coco_panoptic(root, 1)
    assert not (root / TARGET).exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"images": [', '{"images": [], "annotations": []}'])
def test_a_damaged_source_or_result_is_refused_and_kept(root, content):
    source = root / "coco/annotations/panoptic_val2017.json"
    whole = source.read_text()
    source.write_text(content)
    with pytest.raises(DataError, match=r"panoptic_val2017\.json is no "):
        prepare_coco_panoptic(root, 1)
    source.write_text(whole)
    (root / TARGET).write_text(content)
    with pytest.raises(DataError, match=r"regions_val2017\.json is no .*: remove it and run again"):
        prepare_coco_panoptic(root, 1)
    assert (root / TARGET).read_text() == content


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real COCO samples are not here")
@pytest.mark.parametrize(("name", "split", "count"), [("coco", "val2017", 2), ("coco_real", "train2017", 26)])
def test_real_coco_annotations_become_regions_that_are_found_without_options(tmp_path, name, split, count):
    source, annotations = SHARED / name, tmp_path / "coco/annotations"
    annotations.mkdir(parents=True)
    (tmp_path / "coco/val2017").symlink_to(source / split)
    (annotations / "panoptic_val2017").symlink_to(source / f"annotations/panoptic_{split}")
    (annotations / "panoptic_val2017.json").symlink_to(source / f"annotations/panoptic_{split}.json")
    prepare_coco_panoptic(tmp_path, 1)
    regions = load_region_set(str(tmp_path / TARGET))
    assert len(regions.first(masks=True)) == count and len(regions.class_names) == 133
    for image in regions.images[:4]:
        height, width = image.image().shape[-2:]
        masks, boxes = image.masks(), image.boxes.long()
        assert masks.shape[-2:] == (height, width)
        for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
