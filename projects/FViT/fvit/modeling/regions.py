"""What a pyramid says of regions: their features, and which of them teach what.

Shape legend
    N  regions of all images        C  channels        R  side of a region's map
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_area, box_iou, roi_align

REGION, MASK_REGION = 7, 14  # sides of the maps that boxes and masks are predicted from


class RegionPooler(nn.Module):
    """RoIAlign of each box on the level that suits its size, exact for strides that are no powers of two.

    torchvision's own rounds scales to powers of two and aligns corners as older detectors do.

    Args:
        strides: of the levels to pool from, pixels.
        size: R.
        finest: boxes whose side (root of the area) is below twice as many pixels are pooled from the finest level.

    >>> pooler = RegionPooler([4, 8], size=7)
    >>> boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 112.0, 112.0]])
    >>> pooler.levels(boxes).tolist()
    [0, 1]
    >>> pooler([torch.randn(1, 16, 32, 32), torch.randn(1, 16, 16, 16)], [boxes]).shape
    torch.Size([2, 16, 7, 7])
    """

    def __init__(self, strides: Sequence[float], size: int, finest: float = 56.0) -> None:
        super().__init__()
        self.strides, self.size, self.finest = tuple(strides), size, finest

    def levels(self, boxes: Tensor) -> Tensor:
        """The level of each of N boxes: floor(log2(sqrt(area) / finest)), within those there are."""
        levels = (box_area(boxes).sqrt() / self.finest + 1e-6).log2().floor()
        return levels.clamp(0, len(self.strides) - 1).long()

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """N×C×R×R features of each image's boxes, float32, in the order of images and boxes."""
        every, counts = torch.cat(list(boxes)).float(), torch.tensor([len(each) for each in boxes])
        image = torch.arange(len(boxes)).repeat_interleave(counts).to(every)
        regions, levels = torch.cat([image[:, None], every], dim=1), self.levels(every)
        features, places = [], []
        for level, stride in enumerate(self.strides):
            (here,) = torch.where(levels == level)
            pixels = maps[level].float()  # of the boxes' type, and these lose pixels in any lower one
            features.append(roi_align(pixels, regions[here], self.size, 1 / stride, aligned=True))
            places.append(here)
        pooled = torch.cat(features)[torch.cat(places).argsort()]
        return pooled.contiguous(memory_format=torch.channels_last)  # faster to convolve, where maps are small and many


@dataclass(frozen=True)
class Sample:
    """Boxes of one image that a head learns from.

    Attributes:
        boxes: S×4 corners, pixels.
        objects: S indices of the objects they overlap; of negatives without meaning.
        labels: S classes; of negatives the number of classes.
        positive: S bool.
    """

    boxes: Tensor
    objects: Tensor
    labels: Tensor
    positive: Tensor


class RegionSampler:
    """Chooses proposals to learn from: those that overlap an object by half are positive, all others negative.

    Args:
        size: proposals per image.
        positives: share of positives, at most.
    """

    def __init__(self, size: int = 512, positives: float = 0.25) -> None:
        self.match = Matcher(0.5, 0.5)
        self.choose = BalancedPositiveNegativeSampler(size, positives)

    def __call__(self, proposals: Tensor, boxes: Tensor, labels: Tensor, num_classes: int) -> Sample:
        """A sample of the proposals of an image and its objects' own boxes.

        Args:
            proposals: P×4.
            boxes, labels: of the G objects.
            num_classes: what negatives are labelled.
        """
        proposals = torch.cat([proposals, boxes.to(proposals)])
        if len(boxes):
            objects = self.match(box_iou(boxes.to(proposals), proposals))
        else:
            objects = torch.full((len(proposals),), Matcher.BELOW_LOW_THRESHOLD, device=proposals.device)
        (positive,), (negative,) = self.choose([(objects >= 0).long()])
        (chosen,) = torch.where(positive.bool() | negative.bool())
        objects = objects[chosen]
        background = torch.full_like(objects, num_classes)
        given = labels[objects.clamp(min=0)] if len(boxes) else background
        return Sample(proposals[chosen], objects, torch.where(objects >= 0, given, background), objects >= 0)
