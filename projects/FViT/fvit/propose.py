"""Region proposals of a detector for any images: what distillation takes its regions from."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from declip.data.image_list import ImageRecord
from declip.data.mapper import TestMapper
from fvit.modeling import FViT

Proposed = tuple[str, tuple[int, int], np.ndarray]
"""An image's name, its (H, W), and boxes x0, y0, x1, y1 in its pixels, the likeliest first."""


def propose_regions(model: FViT, images: Sequence[ImageRecord], most: int) -> Iterator[Proposed]:
    """The boxes that the region proposal network of a detector takes for objects, whatever their classes.

    Args:
        model: on its device; it is set to evaluation.
        images: read one after the other, each at the size that the model was trained at.
        most: boxes of an image.

    Raises:
        DataError: an image cannot be read.
    """
    model.eval()
    mapper = TestMapper(model.images.side, model.images.side)
    for record in tqdm(images, desc="proposals", unit="image"):
        sample = mapper.resize(record.read().permute(1, 2, 0).numpy())
        with torch.inference_mode():
            padded, maps, _ = model.encode([sample])
            (boxes,), _ = model.proposals(padded, dict(enumerate(maps)))
        (seen,), size = padded.image_sizes, (sample["height"], sample["width"])
        scale = np.tile([size[1] / seen[1], size[0] / seen[0]], 2)
        yield record.path, size, boxes[:most].double().cpu().numpy() * scale
