import numpy as np
import torch
from PIL import Image

from d2host import Boxes, DatasetCatalog, Instances, MetadataCatalog
from fvit.visualizer import GAP, DetectionVisualizer


def test_likely_detections_stand_beside_the_objects(tmp_path):
    Image.new("RGB", (60, 40), (255, 255, 255)).save(tmp_path / "white.png")
    objects = [{"bbox": [5, 5, 20, 20], "bbox_mode": 1, "category_id": 0}]
    record = {
        "file_name": str(tmp_path / "white.png"),
        "height": 40,
        "width": 60,
        "image_id": 7,
        "annotations": objects,
    }
    DatasetCatalog.register("one_white_image", lambda: [record])
    MetadataCatalog.get("one_white_image").set(thing_classes=["cat"], thing_colors=[(255, 0, 0)])
    boxes = torch.tensor([[30.0, 10, 50, 30], [2.0, 2, 58, 38]])
    found = Instances(
        (40, 60), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.1]), pred_classes=torch.zeros(2).long()
    )
    drawer = DetectionVisualizer("one_white_image", tmp_path / "pictures", count=3, threshold=0.3)
    drawer.process([record, {"image_id": 8}], [{"instances": found}] * 2)
    (picture,) = (tmp_path / "pictures").glob("*.png")
    pixels = np.asarray(Image.open(picture))
    red = (pixels == [255, 0, 0]).all(axis=2)
    assert pixels.shape[1:] == (2 * 10 * 60 + GAP, 3)  # enlarged tenfold, below a strip of titles
    red = red[-10 * 40 :]
    assert red[200, 300] and not red[200, 20]  # the likely detection, not the other
    right = red[:, 10 * 60 + GAP :]
    assert right[150, 50] and not right[150, 400]
