import copy
import json
import random

import pytest

from d2host.engine.errors import DataError
from declip.data.detection.coco_json import read_coco, stream_json

CLASSES = ["traffic light", "cat"]
CONTENT = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "9.jpg", "height": 40, "width": 60},
        {"id": 2, "coco_url": "http://images.cocodataset.org/val2017/000000000002.jpg", "height": 40, "width": 60},
        {"id": 5, "file_name": "5.jpg", "height": 40, "width": 60, "neg_category_ids": [17]},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 17, "bbox": [1, 2, 30, 20], "area": 500.5, "iscrowd": 0},
        {
            "id": 2,
            "image_id": 2,
            "category_id": 10,
            "bbox": [50, 30, 20, 20],
            "segmentation": [[50, 30, 60, 30, 60, 40]],
        },
        {"id": 3, "image_id": 2, "category_id": 99, "bbox": [5, 5, 5, 5]},
    ],
    "categories": [{"id": 17, "name": "Cat"}, {"id": 99, "name": "dog"}, {"id": 10, "name": "traffic_light"}],
}


@pytest.fixture
def written(tmp_path):
    """A function that writes a content, and returns where."""

    def write(content=CONTENT, **options):
        (tmp_path / "instances.json").write_text(json.dumps(content, **options))
        return tmp_path / "instances.json"

    return write


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_a_file_is_read_a_member_at_a_time_however_it_is_laid_out(written, options):
    found = {}
    for key, value in stream_json(written({**CONTENT, "empty": [], "last": None}, **options)):
        found.setdefault(key, []).append(value)
    assert found == {**CONTENT, "info": [CONTENT["info"]], "last": [None]}


def test_records_are_by_image_id_with_labels_and_names_from_the_root(written):
    found = read_coco(written(), CLASSES, [10, 17])
    first, second = found.records("coco", keep_empty=False)
    assert first["file_name"] == "coco/val2017/000000000002.jpg" and second["file_name"] == "coco/9.jpg"
    assert [each["category_id"] for each in first["annotations"]] == [0]
    assert second["annotations"][0] == {
        "bbox": [1, 2, 30, 20],
        "bbox_mode": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": 500.5,
    }
    assert found.others == 1
    assert [each["image_id"] for each in found.records("coco", keep_empty=True)] == [2, 5, 9]
    assert list(found.records("coco", keep_empty=True))[1]["neg_category_ids"] == [17]


def test_classes_can_be_left_out(written):
    (only,) = read_coco(written(), CLASSES, without={1}).records("coco", keep_empty=False)
    assert only["image_id"] == 2


def test_boxes_without_area_are_left_out_and_counted(written):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"] = [1, 2, 30, 0]
    found = read_coco(written(content), CLASSES)
    assert found.flat == [1]
    assert [len(each["annotations"]) for each in found.records("", keep_empty=False)] == [1, 0]  # the image stays


FAULTS = {
    "other classes": (
        lambda c: c["categories"].pop(0),
        "is of other categories: it lacks 1 of 2 classes, among them 'cat'",
    ),
    "other ids": (lambda c: c["categories"][0].update(id=16), "has category 'cat' as 16, the benchmark as 17"),
    "an id twice": (lambda c: c["categories"][1].update(id=17), "'categories' has 'id' 17 twice"),
    "an image twice": (lambda c: c["images"].append(c["images"][0]), "'images' has 'id' 9 twice"),
    "no images": (lambda c: c.pop("images"), "it has no 'images'"),
    "no annotations": (lambda c: c["annotations"].clear(), "has no 'annotations'"),
    "no size": (lambda c: c["images"][0].pop("height"), r"images\[0\]: 'height' is missing"),
    "no name": (lambda c: c["images"][0].pop("file_name"), "image 9 has no 'file_name'"),
    "a name that leaves the folder": (
        lambda c: c["images"][0].update(file_name="../9.jpg"),
        "'file_name' is '../9.jpg'",
    ),
    "an unknown image": (
        lambda c: c["annotations"][0].update(image_id=1),
        r"annotations\[0\]: it is of image 1, which 'images' lacks",
    ),
    "an unknown category": (
        lambda c: c["annotations"][2].update(category_id=98),
        "category 98, which 'categories' lacks",
    ),
    "a box outside": (
        lambda c: c["annotations"][1].update(bbox=[60, 5, 5, 5]),
        r"annotations\[1\]: its box \[60, 5, 5, 5\] lies outside the image \(60x40\)",
    ),
    "a box of three numbers": (lambda c: c["annotations"][1].update(bbox=[6, 5, 5]), "not a list of four numbers"),
    "an odd polygon": (lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4, 5]]), "not polygons of x and y"),
    "an annotation that is none": (lambda c: c["annotations"].append(7), r"annotations\[3\]: 7 stands where an object"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_file_of_something_else_is_refused_in_one_sentence(written, kind):
    spoil, words = FAULTS[kind]
    content = copy.deepcopy(CONTENT)
    spoil(content)
    with pytest.raises(DataError, match=words) as caught:
        read_coco(written(content), CLASSES, [10, 17], remedy="get it again")
    assert str(caught.value).endswith("get it again") and "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_or_spoilt_is_refused_or_read(written):
    path, generator = written(), random.Random(0)
    content = path.read_bytes()
    refused = 0
    for _ in range(150):
        spoilt = bytearray(content)
        if generator.random() < 0.4:
            spoilt = spoilt[: generator.randrange(len(spoilt))]
        else:
            for _ in range(3):
                spoilt[generator.randrange(len(spoilt))] = generator.randrange(256)
        path.write_bytes(spoilt)
        try:
            list(read_coco(path, CLASSES).records("", keep_empty=True))
        except DataError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 100


def test_numbers_that_are_none_are_refused(written):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"][0] = float("nan")
    with pytest.raises(DataError, match="NaN is no number of JSON"):
        read_coco(written(content), CLASSES)
