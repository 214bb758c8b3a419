"""One feature per region, from the patches it covers.

Shape legend
    K     regions of one image        h, w  grid of patches        H, W  image, padded to whole patches
    C     channels
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def pool_boxes(features: Tensor, boxes: Tensor, patch_size: int) -> Tensor:
    """The mean of each box by RoIAlign, as the content loss takes it (Eq. 7).

    >>> features = torch.arange(4.0).expand(1, 3, 4)  # 3×4 patches of 16 pixels; columns are 0, 1, 2, 3
    >>> pool_boxes(features, torch.tensor([[0, 0, 32, 48], [32, 16, 64, 32]]), patch_size=16).tolist()
    [[0.5], [2.5]]

    Args:
        features: C×h×w.
        boxes: K×4 (x0, y0, x1, y1), pixels.

    Returns:
        K×C.
    """
    boxes = [boxes.to(features)]
    return roi_align(features[None], boxes, output_size=1, spatial_scale=1 / patch_size, aligned=True).flatten(1)


def pool_masks(features: Tensor, masks: Tensor) -> Tensor:
    """The mean over the patches that each mask covers.

    A mask covers a patch where, resized bilinearly to the grid, it is positive; one too small to survive that covers
    every patch that it touches.

    Args:
        features: C×h×w.
        masks: K×H×W bool.

    Returns:
        K×C.

    Raises:
        ValueError: a mask is empty.
    """
    pixels = masks[:, None].to(features)
    covered = F.interpolate(pixels, size=features.shape[1:], mode="bilinear", align_corners=False) > 0
    lost = ~covered.flatten(1).any(dim=1)
    if lost.any():
        covered[lost] = F.adaptive_max_pool2d(pixels[lost], features.shape[1:]) > 0
    weights = covered.flatten(1).to(features)
    counts = weights.sum(dim=1, keepdim=True)
    if not counts.all():
        raise ValueError("a mask without a pixel has no feature")
    return weights @ features.flatten(1).T / counts


def cut_crops(image: Tensor, boxes: Tensor, enlarge: Tensor, side: int) -> Tensor:
    """Each box as an image of its own.

    Args:
        image: 3×H×W uint8.
        boxes: K×4 pixels.
        enlarge: K, factor on the sides of each box about its centre; what lies outside the image is left out.
        side: of the crops, pixels; aspect is not kept.

    Returns:
        K×3×side×side float in 0..255.
    """
    height, width = image.shape[-2:]
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * enlarge[:, None]
    limits = torch.tensor([width, height])
    first = torch.minimum((center - half).floor().long().clamp_min(0), limits - 1)
    last = torch.maximum(torch.minimum((center + half).ceil().long(), limits), first + 1)
    crops = []
    for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True):
        crop = image[None, :, y0:y1, x0:x1].float()
        crops.append(F.interpolate(crop, size=(side, side), mode="bicubic", antialias=True).clamp(0, 255))
    return torch.cat(crops)
