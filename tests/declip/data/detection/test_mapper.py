import numpy as np
import pytest
import torch
from PIL import Image

from d2host.engine.errors import DataError
from declip.data.detection.augmentation import draw_window
from declip.data.detection.datasets import detection_classes, detection_records
from declip.data.detection.mapper import DetectionMapper
from tests.coco_real import coco_real_det

CLASSES = ["cat", "dog", "cup"]


@pytest.fixture
def record(tmp_path):
    """An image whose left half is red, with a cat on it, a crowd of dogs, and a cup without a mask."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, :45, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    square = [0, 10, 45, 10, 45, 50, 0, 50]
    annotations = [
        {"bbox": [0, 10, 45, 40], "bbox_mode": 1, "category_id": 0, "segmentation": [square]},
        {"bbox": [10, 10, 40, 40], "bbox_mode": 0, "category_id": 1, "iscrowd": 1},
        {"bbox": [50, 20, 80, 50], "bbox_mode": 0, "category_id": 2},
    ]
    image = {"file_name": str(tmp_path / "a.png"), "image_id": 5, "height": 60, "width": 90}
    return {**image, "annotations": annotations}


def test_boxes_stay_on_their_objects(record):
    mapper = DetectionMapper(CLASSES, side=128)
    for seed in range(30):
        sample = mapper(record, np.random.default_rng(seed))
        assert sample["height"] == 60 and sample["width"] == 90 and "annotations" not in sample
        objects, image = sample["instances"], sample["image"]
        assert objects.image_size == tuple(image.shape[1:]) and max(image.shape[1:]) <= 128
        assert (objects.gt_boxes.tensor[:, 2:] <= image.new_tensor(image.shape[:0:-1]) + 1e-4).all()
        for box, label in zip(objects.gt_boxes.tensor.round().int().tolist(), objects.gt_classes.tolist(), strict=True):
            x0, y0, x1, y1 = box
            inside = image[0, y0 + 1 : y1 - 1, x0 + 2 : x1 - 2].float()
            if inside.numel():
                assert abs(inside.mean() - (200 if label == 0 else 0)) < 2


def test_crowds_are_no_objects(record):
    sample = DetectionMapper(CLASSES, side=90, scales=(1, 1), flip=False)(record, np.random.default_rng(0))
    assert sample["instances"].gt_classes.tolist() == [0, 2]
    assert sample["instances"].gt_boxes.tensor.tolist() == [[0, 10, 45, 50], [50, 20, 80, 50]]


def test_an_object_that_the_window_cuts_has_the_box_of_what_is_left_of_its_mask(record):
    triangle = [0, 0, 80, 0, 0, 50]  # its lower right is empty
    record["annotations"] = [
        {"bbox": [0, 0, 80, 50], "bbox_mode": 1, "category_id": 0, "segmentation": [triangle]},
        {"bbox": [0, 0, 80, 50], "bbox_mode": 1, "category_id": 1},
    ]
    seed = next(seed for seed in range(200) if window_of(seed).left > 20)
    window = window_of(seed)
    sample = DetectionMapper(CLASSES, side=60, scales=(1.5, 1.5), flip=False)(record, np.random.default_rng(seed))
    assert window.scaled == (60, 90)
    (masked, plain) = sample["instances"].gt_boxes.tensor.tolist()
    height = 50 * (80 - window.left) / 80  # of the triangle, at the window's left edge
    assert masked == pytest.approx([0, 0, 80 - window.left, height], abs=1.5)
    assert plain == pytest.approx([0, 0, 80 - window.left, 50])


def window_of(seed):
    return draw_window((60, 90), 60, (1.5, 1.5), False, np.random.default_rng(seed))


def test_a_window_without_objects_is_a_sample_without_any(record):
    record["annotations"] = [
        {"bbox": [0, 0, 20, 14], "bbox_mode": 1, "category_id": 0, "segmentation": [[0, 0, 20, 0, 0, 14]]}
    ]
    mapper = DetectionMapper(CLASSES, side=32, scales=(2, 2), masks=True)
    numbers = [len(mapper(record, np.random.default_rng(seed))["instances"]) for seed in range(30)]
    assert 0 in numbers and 1 in numbers
    record["annotations"] = []
    empty = mapper(record, np.random.default_rng(0))["instances"]
    assert len(empty) == 0 and empty.gt_boxes.tensor.shape == (0, 4) and empty.gt_masks.tensor.shape[0] == 0


def test_masks_of_photographs_lie_in_their_boxes():
    name = coco_real_det()
    mapper = DetectionMapper(detection_classes(name), side=96, masks=True)
    differences = []
    for seed, record in enumerate(detection_records(name, training=True)):
        sample = mapper(record, np.random.default_rng(seed))
        objects = sample["instances"]
        filled = objects.gt_masks.tensor.flatten(1).any(dim=1)  # a small one may lie between pixels
        found = (objects.gt_masks.get_bounding_boxes().tensor - objects.gt_boxes.tensor)[filled]
        assert (found[:, :2] > -1.01).all() and (found[:, 2:] < 1.01).all()
        differences.append(found)
    differences = torch.cat(differences)
    assert len(differences) > 60 and differences.abs().mean() < 0.5


def spoilt(record, kind):
    first = record["annotations"][0]
    match kind:
        case "no mask":
            return record
        case "novel":
            first["category_id"] = 1
        case "outside":
            first["bbox"] = [95, 10, 20, 20]
        case "flat":
            first["bbox"] = [5, 10, 0, 20]
        case "no class":
            first["category_id"] = 3
        case "no mode":
            del first["bbox_mode"]
        case "another size":
            record["height"] = 61
        case "no image":
            record["file_name"] += "gone"
    return record


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no mask", "an object of .*a.png has no 'segmentation': train without masks, or give them"),
        ("novel", r"annotations\[0\]: it is of the novel class 'dog', which nobody may train on"),
        ("outside", r"its box \[95, 10, 20, 20\] lies outside the image \(90x60\)"),
        ("flat", r"its box \[5, 10, 0, 20\] has no area"),
        ("no class", "'category_id' is 3, but there are 3 classes"),
        ("no mode", "'bbox_mode' is missing"),
        ("another size", "is 90x61, its image .*a.png is 90x60"),
        ("no image", "a.pnggone does not exist"),
    ],
)
def test_a_dict_of_something_else_is_refused_in_one_sentence(record, kind, words):
    mapper = DetectionMapper(CLASSES, side=90, scales=(1, 1), masks=True, novel={1})
    if kind != "novel":
        record["annotations"].pop(1)  # the crowd, of the novel class
    with pytest.raises(DataError, match=words) as caught:
        mapper(spoilt(record, kind), np.random.default_rng(0))
    assert "\n" not in str(caught.value) and "a.png" in str(caught.value)
