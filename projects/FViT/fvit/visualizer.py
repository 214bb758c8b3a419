"""Detections and ground truth side by side."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_segmentation_masks

from d2host import BoxMode, DatasetEvaluator, Instances
from declip.data.detection.datasets import detection_metadata, detection_records, image_ids
from declip.data.palette import class_palette
from declip.data.reading import read_image

GAP = 8  # pixels between the pictures
LEAST_SIDE = 400  # of a picture: smaller images are enlarged by a whole number, or names would hide them
FONT_SIZE, LINE = 13, 2  # pixels
TITLES = ("detections", "ground truth")


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
        self.colors = [tuple(each) for each in metadata.get("thing_colors") or class_palette(len(self.names))]
        positions = zip(image_ids(records), range(min(count, len(records))), strict=False)
        self.records = {number: records[position] for number, position in positions}
        self.folder, self.threshold = Path(folder), threshold
        self.font = ImageFont.load_default(FONT_SIZE)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take one batch: dataset dicts, and ``instances`` in pixels of the images."""
        for sample, output in zip(inputs, outputs, strict=True):
            record = self.records.get(sample["image_id"])
            if record is None:
                continue
            image = torch.from_numpy(read_image(record["file_name"]).copy()).permute(2, 0, 1)
            found = output["instances"].to("cpu")
            pictures = [self.draw(image, found[found.scores > self.threshold]), self.draw_objects(image, record)]
            width, height, strip = pictures[0].width, pictures[0].height, FONT_SIZE + 2 * LINE
            joined = Image.new("RGB", (2 * width + GAP, height + strip), "white")
            for left, title, picture in zip((0, width + GAP), TITLES, pictures, strict=True):
                ImageDraw.Draw(joined).text((left, 0), title, "black", self.font)
                joined.paste(picture, (left, strip))
            self.folder.mkdir(parents=True, exist_ok=True)
            joined.save(self.folder / f"{sample['image_id']}.png")

    def draw(self, image: Tensor, found: Instances) -> Image.Image:
        """Detections on an image 3×H×W, the least likely first."""
        order = found.scores.argsort()
        labels = found.pred_classes[order].tolist()
        if found.has("pred_masks") and len(found):
            colors = [self.colors[label] for label in labels]
            image = draw_segmentation_masks(image, found.pred_masks[order], alpha=0.5, colors=colors)
        texts = [f"{self.names[label]} {score:.2f}" for label, score in zip(labels, found.scores[order], strict=True)]
        return self._boxes(image, found.pred_boxes.tensor[order].tolist(), labels, texts)

    def draw_objects(self, image: Tensor, record: dict) -> Image.Image:
        """The objects of a dataset dict on its image 3×H×W."""
        labels = [each["category_id"] for each in record["annotations"]]
        boxes = [
            BoxMode.convert(list(each["bbox"]), BoxMode(each["bbox_mode"]), BoxMode.XYXY_ABS)
            for each in record["annotations"]
        ]
        return self._boxes(image, boxes, labels, [self.names[label] for label in labels])

    def _boxes(
        self, image: Tensor, boxes: Sequence[Sequence[float]], labels: Sequence[int], texts: Sequence[str]
    ) -> Image.Image:
        """Boxes in the colours of their classes, with texts above, or within at the upper edge."""
        picture = to_pil_image(image)
        scale = -(-LEAST_SIDE // min(picture.size)) if min(picture.size) < LEAST_SIDE else 1
        picture = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)
        canvas = ImageDraw.Draw(picture)
        for box, label, text in zip(boxes, labels, texts, strict=True):
            left, top, *_ = corners = [scale * side for side in box]
            color, dark = self.colors[label], sum(self.colors[label]) < 384
            canvas.rectangle(corners, outline=color, width=LINE)
            anchor = "lb" if top > FONT_SIZE else "la"
            canvas.rectangle(canvas.textbbox((left, top), text, self.font, anchor), fill=color)
            canvas.text((left, top), text, "white" if dark else "black", self.font, anchor)
        return picture
