"""How sure a detection is: two opinions on a box's class, of the detector and of the dense CLIP features.

Shape legend
    N  boxes        K  classes, without the background        C  width of the shared image-text space
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, roi_align


def cosines(features: Tensor, texts: Tensor) -> Tensor:
    """Of unit vectors N×C with K×C, float32 under mixed precision, too: temperatures multiply what it would round."""
    with torch.autocast(features.device.type, enabled=False):
        return features @ texts.T


@dataclass(frozen=True)
class Ensemble:
    """The geometric mean of both opinions, in which CLIP counts more for classes that training never named.

    Attributes:
        alpha: weight of CLIP for base classes and the background.
        beta: its weight for novel classes.
        temperature: of CLIP's cosines.
    """

    alpha: float = 0.1
    beta: float = 0.8
    temperature: float = 45.0

    def __call__(self, logits: Tensor, cosines: Tensor, novel: Tensor) -> Tensor:
        """Scores N×K in [0, 1]: p_detector^(1-w) p_clip^w with w alpha or beta, not renormalised.

        Args:
            logits: N×(K+1) of the detector, the background last.
            cosines: N×(K+1) of CLIP's features of the boxes with the same texts.
            novel: K bool.

        >>> logits, cosines = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.2, 0.8]]).log()
        >>> scores = Ensemble(alpha=0.5, beta=0.5, temperature=1.0)(logits, cosines, torch.tensor([False]))
        >>> round(scores.item(), 3)
        0.4
        """
        detector = logits.log_softmax(dim=1)[:, :-1]
        clip = (self.temperature * cosines).log_softmax(dim=1)[:, :-1]
        weight = torch.where(novel, self.beta, self.alpha)
        return ((1 - weight) * detector + weight * clip).exp()


def clip_features(dense: Tensor, boxes: Sequence[Tensor], stride: float) -> Tensor:
    """The dense feature of each box, unit vectors N×C: RoIAlign to one place.

    Args:
        dense: B×C×h×w, L2-normalised per token.
        boxes: of each image, corners in pixels.
        stride: pixels between tokens.
    """
    pooled = roi_align(dense, [each.to(dense) for each in boxes], 1, 1 / stride, aligned=True)
    return F.normalize(pooled.flatten(1), dim=1)


@dataclass(frozen=True)
class Selection:
    """What is left of an image's boxes after suppression within each class.

    Attributes:
        threshold: that scores have to be above.
        iou: of detections of a class, above which the less certain is suppressed.
        limit: most detections.
    """

    threshold: float = 0.01
    iou: float = 0.4
    limit: int = 100

    def __call__(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of boxes, classes and scores of M detections, the most certain first.

        A detection is suppressed by more certain ones alone, so the best candidates suffice where enough of them are
        left: with a thousand classes there are a million.

        Args:
            boxes: N×4, of any class.
            scores: N×K.
        """
        rows, classes = torch.where(scores > self.threshold)
        certain, order = scores[rows, classes].sort(descending=True, stable=True)
        count = 8 * self.limit
        while True:
            first, kind = rows[order[:count]], classes[order[:count]]
            kept = batched_nms(boxes[first], certain[:count], kind, self.iou)[: self.limit]
            if len(kept) == self.limit or count >= len(order):
                return first[kept], kind[kept], certain[kept]
            count *= 4
