import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from d2host import Boxes, Instances

SIZE = (120, 160)


@pytest.fixture
def scenes():
    """A function that draws a dataset and detections of it: dataset dicts, and ``instances`` by image."""
    return draw_scenes


def draw_scenes(rng, images=6, classes=3, federated=False):
    """Objects, some of them crowds, and detections near to them and elsewhere, with scores that often tie."""
    records, outputs = [], []
    for number in range(images):
        things = [draw_thing(rng, int(rng.integers(classes))) for _ in range(rng.integers(0, 6))]
        near = [shake(rng, each) for each in things for _ in range(rng.integers(0, 3))]
        found = near + [draw_thing(rng, int(rng.integers(classes))) for _ in range(rng.integers(0, 6))]
        record = {"file_name": f"{number}.jpg", "image_id": 10 + 3 * number, "height": SIZE[0], "width": SIZE[1]}
        record["annotations"] = [as_annotation(each, crowd=not federated and rng.random() < 0.1) for each in things]
        if federated:
            there = {each[0] for each in things}
            rest = [label for label in range(classes) if label not in there]
            record["neg_category_ids"] = [label + 1 for label in rest if rng.random() < 0.5]
            record["not_exhaustive_category_ids"] = [label + 1 for label in there if rng.random() < 0.3]
        records.append(record)
        outputs.append({"instances": as_instances(found, np.round(rng.random(len(found)), 1))})
    return records, outputs


def draw_thing(rng, label):
    """A label and a box of any size, from below small to above large."""
    sides = np.minimum(np.exp(rng.uniform(1, 4.7, 2)), np.array(SIZE[::-1]) - 1)
    corner = rng.uniform(0, np.array(SIZE[::-1]) - sides)
    return label, np.round(np.concatenate([corner, corner + sides]))


def shake(rng, thing):
    label, box = thing
    moved = np.round(box + rng.normal(0, 0.08, 4) * np.tile(box[2:] - box[:2], 2))
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return label, np.clip(moved, 0, np.tile(SIZE[::-1], 2)) if (moved[:2] < np.array(SIZE[::-1]) - 1).all() else box


def mask_of(box):
    """A disc within the box, so that masks overlap otherwise than boxes."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    center, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return ((columns - center[0]) / radii[0]) ** 2 + ((rows - center[1]) / radii[1]) ** 2 <= 1


def as_annotation(thing, crowd):
    label, box = thing
    mask = mask_of(box)
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    sides = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
    return {
        "bbox": sides,
        "bbox_mode": 1,
        "category_id": label,
        "segmentation": code,
        "iscrowd": int(crowd),
        "area": float(mask.sum()),
    }


def as_instances(found, scores):
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor(np.array([box for _, box in found]).reshape(-1, 4)))
    instances.scores = torch.tensor(scores, dtype=torch.float64)
    instances.pred_classes = torch.tensor([label for label, _ in found], dtype=torch.int64)
    masks = np.stack([mask_of(box) for _, box in found]) if found else np.zeros((0, *SIZE), bool)
    instances.pred_masks = torch.from_numpy(masks)
    return instances
