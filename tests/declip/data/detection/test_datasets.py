import copy

import numpy as np
import pytest
from PIL import Image

from d2host import DatasetCatalog, MetadataCatalog
from d2host.engine.errors import DataError
from declip.data.datasets import register_datasets
from declip.data.detection.benchmarks import DETECTION_DATASETS
from declip.data.detection.datasets import detection_classes, detection_metadata, detection_records
from declip.data.detection.record_file import RecordFile, write_records

CLASSES = ["cat", "dog"]


@pytest.fixture
def dicts(tmp_path):
    """Three images, the last of them without an object."""
    found = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
        boxes = [[1, 2, 10, 8]] if number < 2 else []
        annotations = [{"bbox": box, "bbox_mode": 1, "category_id": 0} for box in boxes]
        image = {"file_name": str(path), "image_id": number, "height": 20, "width": 30}
        found.append({**image, "annotations": annotations})
    return found


@pytest.fixture
def registered():
    """A function that registers a dataset for one test."""
    name = "my_detection"

    def register(function, **facts):
        DatasetCatalog.register(name, function)
        MetadataCatalog.get(name).set(**{"thing_classes": CLASSES, **facts})
        return name

    yield register
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("name", "classes", "novel", "kind"),
    [
        ("ov_coco_train", 65, 17, "coco"),
        ("ov_coco_val", 65, 17, "coco"),
        ("ov_lvis_train", 1203, 337, "lvis"),
        ("ov_lvis_val", 1203, 337, "lvis"),
        ("coco_80_val", 80, 0, "coco"),
        ("objects365_v1_val", 365, 0, "coco"),
    ],
)
def test_benchmarks_are_registered(name, classes, novel, kind):
    metadata = detection_metadata(name)
    assert len(metadata.thing_classes) == classes and len(metadata.novel_classes) == novel
    assert metadata.evaluator_type == kind and len(metadata.thing_dataset_id_to_contiguous_id) == classes


def test_novel_classes_of_coco_are_those_of_the_public_split():
    """Positions and ids as the facts about the public code state them."""
    metadata = detection_metadata("ov_coco_val")
    assert metadata.novel_classes == [4, 5, 11, 12, 15, 16, 21, 23, 27, 29, 32, 34, 45, 47, 54, 58, 63]
    ids = {label: number for number, label in metadata.thing_dataset_id_to_contiguous_id.items()}
    novel = [ids[label] for label in metadata.novel_classes]
    assert novel == [5, 6, 17, 18, 21, 22, 28, 32, 36, 41, 47, 49, 61, 63, 76, 81, 87]
    assert ids[64] == 90 and metadata.thing_classes[64] == "toothbrush"


def test_groups_of_lvis_are_rare_common_and_frequent():
    groups = DETECTION_DATASETS["ov_lvis_val"].class_groups()
    assert {name: len(labels) for name, labels in groups.items()} == {"r": 337, "c": 461, "f": 405}
    assert sorted(label for labels in groups.values() for label in labels) == list(range(1203))


def test_registering_opens_no_file_of_a_dataset(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_datasets()
    with pytest.raises(DataError, match=r"ov_coco_val\.records does not exist: put COCO's instances"):
        detection_records("ov_coco_val")


def test_a_dataset_that_is_unknown_or_of_another_kind_is_refused(registered):
    with pytest.raises(DataError, match=r"dataset 'coco' is not registered: choose among .*ov_coco_train"):
        detection_records("coco")
    with pytest.raises(DataError, match="'voc_2012_test_sem_seg' has no list of 'thing_classes'"):
        detection_classes("voc_2012_test_sem_seg")


def test_images_without_objects_are_for_evaluation_alone(dicts, registered):
    name = registered(lambda: dicts)
    assert len(detection_records(name)) == 3 and len(detection_records(name, training=True)) == 2


@pytest.fixture
def record_file(dicts, tmp_path):
    below = [{**each, "file_name": each["file_name"].removeprefix(f"{tmp_path}/")} for each in dicts]
    write_records(tmp_path / "my.records", CLASSES, below)
    return lambda: RecordFile(tmp_path / "my.records", tmp_path)


def test_a_file_of_records_stays_one(record_file, registered, dicts):
    name = registered(record_file)
    records = detection_records(name, training=True)
    assert isinstance(records, RecordFile) and list(records) == dicts[:2]


def spoil(dicts, kind):
    first = dicts[0]
    match kind:
        case "no annotations":
            del first["annotations"]
        case "a box without area":
            first["annotations"][0]["bbox"] = [1, 2, 10, -3]
        case "a box outside":
            first["annotations"][0]["bbox"] = [1, -20, 10, 8]
        case "a class that is none":
            first["annotations"][0]["category_id"] = 2
        case "a missing image":
            first["file_name"] += ".gone"
        case "a height that is none":
            first["height"] = "20"
    return dicts


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no annotations", "dict 0: 'annotations' is missing"),
        ("a box without area", r"its box \[1, 2, 10, -3\] has no area"),
        ("a box outside", r"its box \[1, -20, 10, 8\] lies outside the image \(30x20\)"),
        ("a class that is none", "'category_id' is 2, but there are 2 classes"),
        ("a missing image", r"1 of 3 images do not exist, among them .*0\.png\.gone"),
        ("a height that is none", "'height' is '20', not a positive whole number"),
    ],
)
def test_what_is_no_detection_dataset_is_refused_in_one_sentence(dicts, registered, kind, words):
    name = registered(lambda: spoil(copy.deepcopy(dicts), kind))
    with pytest.raises(DataError, match=words) as caught:
        detection_records(name)
    assert str(caught.value).startswith("dataset 'my_detection'") and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["dicts", "file"])
def test_novel_annotations_in_a_training_file_are_an_error(dicts, record_file, registered, form):
    name = registered(record_file if form == "file" else lambda: dicts, novel_classes=[0])
    with pytest.raises(DataError, match=r"novel class.*which nobody may train on"):
        detection_records(name, training=True)
    assert len(detection_records(name)) == 3


def test_a_file_of_other_classes_is_refused(record_file, registered):
    name = registered(record_file, thing_classes=["dog", "cat"])
    with pytest.raises(DataError, match="is of 2 other classes than the dataset's 2: prepare it again"):
        detection_records(name)


@pytest.mark.parametrize("content", [{}, None, "a.jpg"])
def test_a_function_that_gives_no_list_is_refused(registered, content):
    name = registered(lambda: content)
    with pytest.raises(DataError, match="register a function that gives a list"):
        detection_records(name)


def test_a_dataset_without_an_object_to_train_on_is_refused(dicts, registered):
    name = registered(lambda: dicts[2:])
    with pytest.raises(DataError, match="has no image with an object to train on"):
        detection_records(name, training=True)
