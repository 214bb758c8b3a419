"""Segmentations of many images as a file that COCO's tools read."""

import json
from collections.abc import Sequence
from pathlib import Path

from d2host.engine.atomic import replacing
from declip.segmentation import Segmentation


class CocoResults:
    """Segments of images in COCO's format, one run-length encoded mask per class and image.

    Args:
        class_names: of the classes; ``other`` comes after them where a result has it.

    >>> import declip, numpy as np
    >>> results = CocoResults(["grass", "sky"])
    >>> results.add("street.jpg", declip.segment(np.full((64, 96, 3), 90, np.uint8), ["grass", "sky"], "nano"))
    >>> results.save("segments.json")
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.categories, self.images, self.annotations = dict.fromkeys(class_names), [], []

    def add(self, image: str | Path, result: Segmentation) -> None:
        """The segments of one more image, by its file."""
        number, (height, width) = len(self.images) + 1, result.labels.shape
        self.images.append({"id": number, "file_name": str(image), "height": height, "width": width})
        self.annotations += result.annotations(number)
        self.categories |= dict.fromkeys(result.class_names)

    def save(self, path: str | Path) -> None:
        """Write ``images``, ``categories`` and ``annotations`` as JSON, whole or not at all."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self.categories, start=1)]
        content = {"images": self.images, "categories": categories, "annotations": self.annotations}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content))
