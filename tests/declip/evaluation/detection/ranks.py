"""Perfect detections, and what processes do with them in test_evaluator.py, which import this module by name."""

import numpy as np
import torch
from pycocotools import mask as coco_mask

from d2host import Boxes, Instances, comm


def perfect(records, masks=False):
    """Detections that are the objects."""
    outputs = []
    for record in records:
        objects = record["annotations"]
        boxes = torch.tensor([each["bbox"] for each in objects], dtype=torch.float32).reshape(-1, 4)
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        found.scores = torch.linspace(0.9, 0.6, len(boxes))
        found.pred_classes = torch.tensor([each["category_id"] for each in objects], dtype=torch.int64)
        if masks:
            decoded = [coco_mask.decode(each["segmentation"]) for each in objects]
            stacked = np.stack(decoded) if decoded else np.zeros((0, record["height"], record["width"]))
            found.pred_masks = torch.from_numpy(stacked).bool()
        outputs.append({"instances": found})
    return outputs


def records():
    """Five images, of which processes get different numbers, the last without an object."""
    found = []
    for number in range(5):
        boxes = [[10 * number, 20, 30, 40], [60, 50, 9 + number, 12]]
        annotations = [{"bbox": box, "bbox_mode": 1, "category_id": label} for label, box in enumerate(boxes)]
        image = {"file_name": f"{number}.jpg", "image_id": f"image{number}", "height": 100, "width": 120}
        found.append({**image, "annotations": annotations if number < 4 else []})
    return found


def evaluate_share(folder):
    """A process's images, and the results of all of them on the first."""
    from declip.data.loader import share_of
    from declip.evaluation.detection import DetectionEvaluator

    evaluator = DetectionEvaluator(records(), ["cat", "dog"], output_folder=folder)
    share = share_of(records())
    evaluator.process(share, perfect(share))
    results = evaluator.evaluate()
    assert (results is None) == (comm.get_rank() > 0)
