"""What Detectron2's own evaluator and visualizer make of a detector's output; where Detectron2 is the host."""

import numpy as np
import pytest
import torch

from d2host import HOST, DatasetCatalog, MetadataCatalog, build_model
from fvit.config import get_fvit_cfg

pytestmark = pytest.mark.skipif(HOST.name != "detectron2", reason="the host is not Detectron2")


@pytest.fixture
def detected(options):
    """A record, as Detectron2 has them, and the detections of its image."""
    torch.manual_seed(0)
    model = build_model(get_fvit_cfg("fvit_nano.yaml", options(MODEL__MASK_ON=True))).eval()
    objects = [{"bbox": [5.0, 5, 20, 20], "bbox_mode": 1, "category_id": 0, "segmentation": [[5, 5, 25, 5, 25, 25]]}]
    record = {"file_name": "image.png", "height": 64, "width": 64, "image_id": 7, "annotations": objects}
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    return record, image, model([{"image": image, **record}])


def test_its_evaluator_takes_boxes_and_masks(detected, tmp_path):
    from detectron2.evaluation import COCOEvaluator

    record, _, outputs = detected
    if "detectron2_reads" not in DatasetCatalog.list():
        DatasetCatalog.register("detectron2_reads", lambda: [record])
        MetadataCatalog.get("detectron2_reads").set(thing_classes=["red ring", "blue star", "cat", "green cross"])
    evaluator = COCOEvaluator("detectron2_reads", ("bbox", "segm"), distributed=False, output_dir=str(tmp_path))
    evaluator.reset()
    evaluator.process([record], outputs)
    results = evaluator.evaluate()
    assert 0 <= results["bbox"]["AP"] <= 100 and 0 <= results["segm"]["AP"] <= 100


def test_its_visualizer_draws_them(detected):
    from detectron2.utils.visualizer import Visualizer

    _, image, outputs = detected
    drawn = Visualizer(image.permute(1, 2, 0).numpy()).draw_instance_predictions(outputs[0]["instances"].to("cpu"))
    assert drawn.get_image().shape[2] == 3 and not np.array_equal(drawn.get_image(), image.permute(1, 2, 0).numpy())
