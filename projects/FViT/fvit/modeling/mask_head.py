"""The pixels of an object in its box, whatever its class.

Shape legend
    N  boxes        R  side of a mask (28)        H, W  image
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from fvit.modeling.norm import SyncBatchNorm


class MaskHead(nn.Sequential):
    """Four convolutions, an up-convolution and a classifier per pixel: N×channels×14×14 → N×1×28×28 logits.

    >>> MaskHead(channels=8)(torch.randn(3, 8, 14, 14)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(self, channels: int) -> None:
        convolve = MaskRCNNHeads(channels, [channels] * 4, dilation=1, norm_layer=SyncBatchNorm)
        super().__init__(OrderedDict(convolve=convolve, predict=MaskRCNNPredictor(channels, channels, 1)))


def mask_targets(masks: Tensor, boxes: Tensor, objects: Tensor, size: int) -> Tensor:
    """What the masks of boxes should be: N×1×size×size, 0 or 1.

    Args:
        masks: G×H×W bool, of an image's objects.
        boxes: N×4.
        objects: N indices of the objects the boxes are of.
    """
    regions = torch.cat([objects[:, None].to(boxes), boxes], dim=1)
    return (roi_align(masks[:, None].to(boxes), regions, size, aligned=True) >= 0.5).to(boxes)


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks of boxes as masks of their image.

    Args:
        masks: N×R×R probabilities.
        boxes: N×4 corners, pixels.
        size: (H, W).
        threshold: of a pixel's probability, bilinearly between those of the mask, 0 beyond its edge.

    Returns:
        N×H×W bool.

    >>> paste_masks(torch.ones(1, 28, 28), torch.tensor([[1.0, 0.0, 3.0, 2.0]]), (3, 4)).int().tolist()
    [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]
    """
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    for mask, box, image in zip(masks, boxes.tolist(), pasted, strict=True):
        x0, y0, x1, y1 = box
        left, top, right, bottom = max(int(x0), 0), max(int(y0), 0), min(int(x1) + 1, width), min(int(y1) + 1, height)
        if left >= right or top >= bottom or x0 >= x1 or y0 >= y1:
            continue
        x = (torch.arange(left, right, device=mask.device) + 0.5 - x0) / (x1 - x0) * 2 - 1
        y = (torch.arange(top, bottom, device=mask.device) + 0.5 - y0) / (y1 - y0) * 2 - 1
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
        sampled = F.grid_sample(mask[None, None].float(), points, align_corners=False)
        image[top:bottom, left:right] = sampled[0, 0] >= threshold
    return pasted
