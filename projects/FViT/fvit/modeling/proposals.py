"""Where objects may be: torchvision's region proposal network with F-ViT's anchors, assignment and loss.

Shape legend
    B  images        A  anchors of an image, over all levels        G  objects of an image
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.misc import Conv2dNormActivation

RATIOS = (0.5, 1.0, 2.0)  # height over width
SIDE = 8  # of a square anchor, in strides
POSITIVE, NEGATIVE = 0.7, 0.3  # IoU with an object from which, and below which


class Anchors(nn.Module):
    """Three boxes around every point of a pyramid, at multiples of the level's stride.

    torchvision's own rounds boxes and strides to whole pixels, which those of 14-pixel patches are not.

    Args:
        strides: pixels between the features of each level.

    >>> anchors = Anchors([4.0, 8.0]).of_level(1, (2, 3), torch.zeros(()))
    >>> anchors.shape, anchors[1].tolist()
    (torch.Size([18, 4]), [-32.0, -32.0, 32.0, 32.0])
    """

    def __init__(self, strides: Sequence[float]) -> None:
        super().__init__()
        self.strides = tuple(strides)

    def num_anchors_per_location(self) -> list[int]:
        """Of each level, for torchvision."""
        return [len(RATIOS)] * len(self.strides)

    def forward(self, images: ImageList, maps: Sequence[Tensor]) -> list[Tensor]:
        """A×4 corners in pixels per image: by level, row, column and ratio."""
        levels = [self.of_level(level, each.shape[-2:], each) for level, each in enumerate(maps)]
        return [torch.cat(levels)] * len(images.image_sizes)

    def of_level(self, level: int, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Those of one level of h×w features, on the device of a tensor."""
        stride = self.strides[level]
        roots = torch.tensor(RATIOS, device=like.device).sqrt()
        half = SIDE * stride / 2 * torch.stack([1 / roots, roots], dim=1)
        y, x = (stride * torch.arange(side, device=like.device) for side in grid)
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]
        return torch.cat([centers - half, centers + half], dim=-1).reshape(-1, 4)


class AnchorMatcher(Matcher):
    """torchvision's matcher, which leaves an object without anchor where none overlaps it enough to be no negative."""

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Give every object the anchors that overlap it most, if those are not negatives; in place."""
        best = match_quality_matrix.amax(dim=1, keepdim=True).clamp(min=self.low_threshold)
        anchors = (match_quality_matrix == best).any(dim=0)
        matches[anchors] = all_matches[anchors]


class Head(RPNHead):
    """torchvision's head, whose answers are float32 whatever it computes in: anchors take their type, and bf16 would
    round corners of boxes to four pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness B×3×h×w and deltas B×12×h×w of each level."""
        objectness, deltas = super().forward(x)
        return [each.float() for each in objectness], [each.float() for each in deltas]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's network with two convolutions, by F-ViT's rules; its loss of boxes is L1.

    Args:
        strides: of the levels, pixels.
        channels: of their maps.
        norm_layer: of the convolutions; None: none.
        candidates: boxes per level before suppression.
        proposals: boxes per image after it.
        iou: of neighbours, above which the less likely is suppressed.
        samples: anchors per image that losses are computed of, at most half of them positive.
    """

    def __init__(
        self,
        strides: Sequence[float],
        channels: int,
        norm_layer: Callable[..., nn.Module] | None = None,
        candidates: int = 2000,
        proposals: int = 1000,
        iou: float = 0.7,
        samples: int = 256,
    ) -> None:
        head = Head(channels, len(RATIOS), conv_depth=2)
        if norm_layer:
            convolve = [Conv2dNormActivation(channels, channels, norm_layer=norm_layer) for _ in range(2)]
            head.conv = nn.Sequential(*convolve)
        before, after = ({"training": count, "testing": count} for count in (candidates, proposals))
        super().__init__(Anchors(strides), head, POSITIVE, NEGATIVE, samples, 0.5, before, after, iou)
        self.proposal_matcher = AnchorMatcher(POSITIVE, NEGATIVE, allow_low_quality_matches=True)

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Of sampled anchors: mean binary cross-entropy, and L1 over positives divided by the number of samples."""
        positive, negative = (torch.cat(sampled) > 0 for sampled in self.fg_bg_sampler(labels))
        sampled = positive | negative
        box_loss = F.l1_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], reduction="sum")
        class_loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], torch.cat(labels)[sampled])
        return class_loss, box_loss / sampled.sum()
