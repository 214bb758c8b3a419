import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from declip import build_encoder
from declip.distill.panoptic import load_region_set
from declip.distill.validation import classify_regions, mean_accuracy
from declip.errors import DataError


@pytest.fixture
def coco(tmp_path):
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(tmp_path / "1.jpg")
    content = {
        "images": [{"id": 7, "file_name": "1.jpg"}],
        "categories": [{"id": 3, "name": "cat", "isthing": 1}, {"id": 90, "name": "grass", "isthing": 0}],
        "annotations": [
            {
                "image_id": 7,
                "segments_info": [
                    {"category_id": 90, "bbox": [0, 0, 64, 40], "area": 9, "iscrowd": 0},
                    {"category_id": 3, "bbox": [10, 5, 20, 30], "area": 9, "iscrowd": 0},
                    {"category_id": 3, "bbox": [0, 0, 9, 9], "area": 9, "iscrowd": 1},
                ],
            }
        ],
    }
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_panoptic_regions_are_boxes_with_class_indices(coco):
    regions = load_region_set(str(coco), str(coco.parent))
    assert regions.class_names == ("cat", "grass") and regions.is_thing == (True, False)
    assert regions.images[0].boxes.tolist() == [[0, 0, 64, 40], [10, 5, 30, 35]]
    assert regions.images[0].labels.tolist() == [1, 0]


def test_a_file_that_is_no_panoptic_annotation_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="is no panoptic annotation file"):
        load_region_set(str(tmp_path / "a.json"))
    with pytest.raises(DataError, match="does not exist: give a panoptic"):
        load_region_set("gone.json")


def test_accuracy_is_averaged_over_classes_that_occur():
    labels, predictions = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 0])
    assert mean_accuracy(predictions, labels, [0, 1]) == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert mean_accuracy(predictions, labels, [2, 3]) == 0
    assert math.isnan(mean_accuracy(predictions, labels, [3]))


def test_a_region_is_given_the_class_whose_text_its_feature_matches(coco):
    encoder = build_encoder("nano").eval()
    regions = load_region_set(str(coco), str(coco.parent))
    dense = encoder.encode_dense

    def features_of_grass(images):
        features = dense(images)
        grass = encoder.encode_text(["a photo of a grass"])[0]
        features.content[:] = grass[:, None, None]
        return features

    encoder.encode_dense = features_of_grass
    assert classify_regions(encoder, regions, side=64) == {"things_mAcc": 0.0, "stuff_mAcc": 100.0}
