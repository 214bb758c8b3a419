"""Validation by region classification: do dense features of a region match the name of its class?

Shape legend
    K  regions of an image        C  width of the shared image-text space       T  classes

Source: DeCLIP (CVPR 2025), Fig. 6: RoIAlign over boxes, top-1 accuracy averaged over classes, things and stuff apart.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.transforms.v2 import functional as transforms

from declip.distill.panoptic import RegionImage, RegionSet
from declip.distill.sources import ImageRecord
from declip.encoder import DenseCLIP

PROMPT = "a photo of a {}"


@torch.no_grad()
def classify_regions(encoder: DenseCLIP, regions: RegionSet, side: int, max_images: int = 0) -> dict[str, float]:
    """Mean accuracy over classes of the best class for each region.

    Args:
        encoder: in evaluation mode.
        regions: what to classify.
        side: longer side of the images as the encoder sees them, a multiple of its patch size.
        max_images: only the first of the set; 0: all.

    Returns:
        ``things_mAcc`` and ``stuff_mAcc`` in percent, over the classes that occur.
    """
    text = F.normalize(encoder.encode_text([PROMPT.format(name) for name in regions.class_names]).float(), dim=1)
    images = regions.images[: max_images or None]
    predictions = torch.cat([_classify(encoder, image, text, side) for image in images])
    labels = torch.cat([image.labels for image in images])
    things = torch.tensor(regions.is_thing)
    return {
        "things_mAcc": mean_accuracy(predictions, labels, things.nonzero().flatten().tolist()),
        "stuff_mAcc": mean_accuracy(predictions, labels, (~things).nonzero().flatten().tolist()),
    }


def mean_accuracy(predictions: Tensor, labels: Tensor, classes: Sequence[int]) -> float:
    """Percent of right predictions per class, averaged over the given classes that occur; NaN where none does."""
    correct = predictions == labels
    accuracies = [correct[labels == index].double().mean() for index in classes if bool((labels == index).any())]
    return 100 * torch.stack(accuracies).mean().item() if accuracies else float("nan")


def _classify(encoder: DenseCLIP, regions: RegionImage, text: Tensor, side: int) -> Tensor:
    """The best class of each region: K int64."""
    image = ImageRecord(regions.file_name).read()
    scale = side / max(image.shape[-2:])
    inner = [max(round(length * scale), 1) for length in image.shape[-2:]]
    padding = [0, 0, -inner[1] % encoder.patch_size, -inner[0] % encoder.patch_size]
    resized = transforms.resize(image, inner, transforms.InterpolationMode.BICUBIC, antialias=True)
    pixels = transforms.pad(resized, padding)[None].to(text.device)
    content = encoder.encode_dense(encoder.normalize(pixels)).content.float()
    boxes = [(regions.boxes * scale).to(text.device)]
    features = roi_align(content, boxes, output_size=1, spatial_scale=1 / encoder.patch_size, aligned=True).flatten(1)
    return (F.normalize(features, dim=1) @ text.T).argmax(dim=1).cpu()
