import pytest
import torch

from d2host.engine.errors import DataError
from declip.data.detection.datasets import detection_classes, detection_records
from declip.data.detection.loader import AugmentedDataset, detection_train_loader
from declip.data.detection.mapper import DetectionMapper
from tests.coco_real import coco_real_det


def batches(number, **options):
    name = coco_real_det()
    mapper = DetectionMapper(detection_classes(name), side=64)
    loader = iter(detection_train_loader([name], mapper, seed=3, images_per_batch=4, **options))
    return [next(loader) for _ in range(number)]


def test_batches_are_the_same_with_workers_and_where_a_run_goes_on():
    whole = batches(2)
    for other in (batches(2, num_workers=1), batches(1) + batches(1, start_iter=1)):
        for first, second in zip(whole, other, strict=True):
            for one, two in zip(first, second, strict=True):
                assert one["image_id"] == two["image_id"] and torch.equal(one["image"], two["image"])
                assert torch.equal(one["instances"].gt_boxes.tensor, two["instances"].gt_boxes.tensor)


def test_images_without_objects_do_not_come():
    seen = {sample["image_id"] for batch in batches(8) for sample in batch}
    assert len(seen) == 25 and 508 not in seen  # which shows no thing


def test_several_datasets_follow_each_other():
    records = detection_records(coco_real_det(), training=True)
    dataset = AugmentedDataset([records[:3], records[3:4], records[4:]], lambda record, rng: record, seed=0)
    assert [dataset[0, index]["image_id"] for index in range(len(dataset))] == [each["image_id"] for each in records]


def test_datasets_of_different_classes_are_refused():
    name = coco_real_det()
    mapper = DetectionMapper(detection_classes(name), side=64)
    with pytest.raises(DataError, match="'ov_coco_train' have different classes: train on one of them"):
        detection_train_loader([name, "ov_coco_train"], mapper, seed=0, images_per_batch=1)
