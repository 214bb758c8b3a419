"""Detections and ground truth side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from d2host import BoxMode, DatasetEvaluator, Instances
from declip.data.detection.datasets import detection_metadata, detection_records, image_ids
from declip.data.palette import class_palette
from declip.data.reading import read_image

GAP = 8  # pixels between the pictures


class DetectionVisualizer(DatasetEvaluator):
    """Writes pictures of the first images of a dataset: the detections that are likely, and the objects there are.

    Args:
        dataset: registered name.
        folder: of the pictures.
        count: how many.
        threshold: of the scores of detections that are drawn.
    """

    def __init__(self, dataset: str, folder: str | Path, count: int, threshold: float) -> None:
        metadata, records = detection_metadata(dataset), detection_records(dataset)
        self.names = metadata.thing_classes
        self.colors = metadata.get("thing_colors") or class_palette(len(self.names))
        positions = zip(image_ids(records), range(min(count, len(records))), strict=False)
        self.records = {number: records[position] for number, position in positions}
        self.folder, self.threshold = Path(folder), threshold

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take one batch: dataset dicts, and ``instances`` in pixels of the images."""
        for sample, output in zip(inputs, outputs, strict=True):
            record = self.records.get(sample["image_id"])
            if record is None:
                continue
            image = torch.from_numpy(read_image(record["file_name"]).copy()).permute(2, 0, 1)
            found = output["instances"].to("cpu")
            pictures = [self.draw(image, found[found.scores > self.threshold]), self.draw_objects(image, record)]
            gap = torch.full((3, image.shape[1], GAP), 255, dtype=torch.uint8)
            joined = torch.cat([pictures[0], gap, pictures[1]], dim=2)
            self.folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(joined.permute(1, 2, 0).numpy()).save(self.folder / f"{sample['image_id']}.png")

    def draw(self, image: Tensor, found: Instances) -> Tensor:
        """Detections on an image 3×H×W, the least likely first."""
        order = found.scores.argsort()
        labels = found.pred_classes[order].tolist()
        if found.has("pred_masks") and len(found):
            colors = [self.colors[label] for label in labels]
            image = draw_segmentation_masks(image, found.pred_masks[order], alpha=0.5, colors=colors)
        texts = [f"{self.names[label]} {score:.2f}" for label, score in zip(labels, found.scores[order], strict=True)]
        return self._boxes(image, found.pred_boxes.tensor[order], labels, texts)

    def draw_objects(self, image: Tensor, record: dict) -> Tensor:
        """The objects of a dataset dict on its image 3×H×W."""
        labels = [each["category_id"] for each in record["annotations"]]
        boxes = [
            BoxMode.convert(list(each["bbox"]), BoxMode(each["bbox_mode"]), BoxMode.XYXY_ABS)
            for each in record["annotations"]
        ]
        return self._boxes(image, torch.tensor(boxes).reshape(-1, 4), labels, [self.names[label] for label in labels])

    def _boxes(self, image: Tensor, boxes: Tensor, labels: Sequence[int], texts: Sequence[str]) -> Tensor:
        colors = [tuple(self.colors[label]) for label in labels]
        return draw_bounding_boxes(image, boxes, list(texts), colors, width=2) if labels else image
