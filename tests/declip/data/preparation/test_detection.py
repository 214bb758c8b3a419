import json

import numpy as np
import pytest
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.class_lists import load_class_list
from declip.data.detection.benchmarks import COCO_IDS, DETECTION_DATASETS
from declip.data.detection.datasets import detection_records
from declip.data.detection.record_file import RecordFile, write_records
from declip.data.preparation.check_detection import check_detection
from declip.data.preparation.detection import prepare_objects365, prepare_ov_coco, prepare_ov_lvis

PERSON, AIRPLANE, TRAFFIC_LIGHT = 1, 5, 10  # base, novel, neither


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A tree like COCO's, whose images hold a base, a novel and an unused class in turn."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    categories = [
        {"id": number, "name": name} for number, name in zip(COCO_IDS, load_class_list("coco_80"), strict=True)
    ]
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / f"coco/{split}2017").mkdir()
        images, annotations = [], []
        for number in range(1, 7):
            Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"coco/{split}2017/{number}.jpg")
            images.append({"id": number, "file_name": f"{number}.jpg", "height": 20, "width": 30})
            category = (PERSON, AIRPLANE, TRAFFIC_LIGHT)[number % 3]
            box = {"bbox": [1, 2, 10, 8], "area": 70, "iscrowd": 0}
            annotations.append({"id": number, "image_id": number, "category_id": category, **box})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"coco/annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return tmp_path


def test_a_training_set_has_base_classes_alone_and_a_validation_set_both(coco):
    assert sum(prepare_ov_coco(coco, 1).values()) == 3
    train = detection_records("ov_coco_train", training=True)
    assert [each["image_id"] for each in train] == [3, 6]
    assert [each["image_id"] for each in detection_records("ov_coco_val")] == [1, 3, 4, 6]
    assert [each["image_id"] for each in detection_records("coco_80_val")] == [1, 2, 3, 4, 5, 6]
    assert train[0]["annotations"] == [
        {"bbox": [1, 2, 10, 8], "bbox_mode": 1, "category_id": 0, "iscrowd": 0, "area": 70}
    ]


def test_what_is_made_is_not_made_again_and_what_is_broken_is_refused(coco):
    prepare_ov_coco(coco, 1)
    assert set(prepare_ov_coco(coco, 1).values()) == {0}
    made = coco / DETECTION_DATASETS["ov_coco_val"].records
    made.write_bytes(made.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"ov_coco_val\.records is no whole file .*: remove it and run again"):
        prepare_ov_coco(coco, 1)


def test_an_annotation_file_of_other_categories_is_refused_and_nothing_left(coco):
    path = coco / "coco/annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][4]["name"] = "aeroplane"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is of other categories: it lacks 1 of 65 classes, among them 'airplane'"):
        prepare_ov_coco(coco, 1)
    assert not list(coco.rglob("*.records*"))


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    for prepare, name in ((prepare_ov_lvis, "lvis_v1_val.json"), (prepare_objects365, "objects365_val.json")):
        with pytest.raises(DataError, match=rf"{name} does not exist: put .* and run datasets/"):
            prepare(tmp_path, 1)


def test_lvis_keeps_what_was_looked_for_and_images_without_objects(tmp_path):
    names = load_class_list("lvis_v1_1203")
    rare = DETECTION_DATASETS["ov_lvis_train"].class_groups()["r"][0]
    common = DETECTION_DATASETS["ov_lvis_train"].class_groups()["c"][0]
    (tmp_path / "lvis").mkdir()
    url = "http://images.cocodataset.org/train2017/000000000009.jpg"
    looked = {"neg_category_ids": [3], "not_exhaustive_category_ids": [4], "height": 20, "width": 30}
    images = [{"id": number, "coco_url": url, **looked} for number in (1, 2)]
    annotations = [
        {"id": number, "image_id": number, "category_id": label + 1, "bbox": [1, 2, 3, 4], "area": 9}
        for number, label in enumerate((rare, common), start=1)
    ]
    categories = [{"id": label + 1, "name": name.replace(" ", "_")} for label, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for split in ("train", "val"):
        (tmp_path / f"lvis/lvis_v1_{split}.json").write_text(json.dumps(content))
    prepare_ov_lvis(tmp_path, 1)
    train, val = (RecordFile(tmp_path / f"lvis/ov_lvis_{split}.records", tmp_path) for split in ("train", "val"))
    assert train.num_objects.tolist() == [0, 1] and val.num_objects.tolist() == [1, 1]
    assert train[0]["neg_category_ids"] == [3] and train[0]["not_exhaustive_category_ids"] == [4]
    assert train[0]["file_name"] == str(tmp_path / "coco/train2017/000000000009.jpg")


def test_objects365_knows_its_classes_however_they_are_written(tmp_path):
    names = load_class_list("objects365_v1_365")
    written = [name.replace("/", " / ").title() + " " for name in names]
    (tmp_path / "objects365/annotations").mkdir(parents=True)
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 365, "bbox": [1, 2, 3, 4], "area": 12}],
        "categories": [{"id": 365 - label, "name": name} for label, name in enumerate(written)],
    }
    (tmp_path / "objects365/annotations/objects365_val.json").write_text(json.dumps(content))
    prepare_objects365(tmp_path, 1)
    (record,) = RecordFile(tmp_path / "objects365/objects365_v1_val.records", tmp_path)
    assert record["annotations"][0]["category_id"] == 0


def kinds(found):
    return sorted({fault.kind for fault in found.faults})


def test_the_check_finds_every_fault(coco):
    prepare_ov_coco(coco, 1)
    dataset = DETECTION_DATASETS["ov_coco_train"]
    assert kinds(check_detection("ov_coco_train", dataset, root=coco)) == ["number of images"]
    (coco / "coco/train2017/3.jpg").unlink()
    Image.fromarray(np.zeros((20, 31, 3), np.uint8)).save(coco / "coco/train2017/6.jpg")
    found = check_detection("ov_coco_train", dataset, root=coco)
    assert kinds(found) == ["label of another size", "missing image", "number of images"]
    (coco / "coco/train2017/6.jpg").write_bytes(b"no image")
    assert "unreadable image" in kinds(check_detection("ov_coco_train", dataset, root=coco))
    assert "unreadable image" not in kinds(check_detection("ov_coco_train", dataset, root=coco, quick=True))


def test_the_check_finds_novel_classes_boxes_outside_and_other_classes(coco):
    dataset = DETECTION_DATASETS["ov_coco_train"]
    records = [
        {"image_id": 1, "file_name": "coco/train2017/1.jpg", "height": 20, "width": 30, "annotations": []},
        {"image_id": 2, "file_name": "coco/train2017/2.jpg", "height": 20, "width": 30, "annotations": []},
    ]
    records[0]["annotations"] = [{"bbox": [1, 2, 3, 4], "bbox_mode": 1, "category_id": 4}]
    records[1]["annotations"] = [{"bbox": [31, 2, 3, 4], "bbox_mode": 1, "category_id": 0}]
    write_records(coco / dataset.records, load_class_list("ov_coco_65"), records)
    found = check_detection("ov_coco_train", dataset, root=coco)
    assert any("1 objects in" in each and "are of novel classes" in each for each in found.troubles)
    assert any("lies outside the image" in each for each in found.troubles)
    write_records(coco / dataset.records, ["cat"], [])
    assert "other classes" in kinds(check_detection("ov_coco_train", dataset, root=coco))
