"""The region correlation constraint: regions of the student relate to each other as those of a foundation model do.

Shape legend
    B     images                K, k  regions of all the images, of one       C  width of the shared image-text space
    h, w  grid of tokens        n     features that are correlated            E  channels of the foundation model
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchvision.ops import roi_align

from declip.losses.base import ENTROPIES, DistillationLoss, StudentFeature, TermLoss, entropy_shares
from declip.losses.distances import KLDistance
from declip.models.features import DenseFeatures
from declip.teachers.targets import Features, Regions


class RegionCorrelationLoss(DistillationLoss):
    """``mean_i KL(softmax R_i(teacher) || softmax R_i(student))`` over rows i of an image, mean over images.

    R holds the cosines of regions pooled from the content map, and from the foundation model's: between the regions of
    an image; or, with ``points``, between points×points places within each region. A matrix of one region, or of one
    point, says nothing: it contributes 0.

    Source: generalized DeCLIP (arXiv 2508.11256) names the term, its divergence and its matrices "of regions"; that
    these are the grid cells, and the temperature, are ours.

    Args:
        patch_size: pixels per token of the student.
        distance: between rows.
        points: along a side of a region; 1: the region is one feature, and related to the others.

    >>> _ = torch.manual_seed(0)
    >>> features = DenseFeatures(content=torch.randn(1, 512, 4, 6), context=(), hidden={})
    >>> boxes = torch.tensor([[0.0, 0.0, 48.0, 64.0], [48.0, 0.0, 96.0, 64.0]])  # the halves of a view of 64×96 pixels
    >>> loss = RegionCorrelationLoss(patch_size=16)(features, Features(torch.randn(1, 384, 4, 6)), Regions((boxes,)))
    >>> bool(loss.value > 0), sorted(loss.measures)
    (True, ['entropy_student', 'entropy_teacher'])
    """

    feature = StudentFeature.CONTENT
    needs = (Features, Regions)

    def __init__(self, patch_size: int, distance: KLDistance | None = None, points: int = 1) -> None:
        super().__init__()
        self.patch_size, self.points = patch_size, points
        self.distance = distance or KLDistance()

    def forward(self, features: DenseFeatures, target: Features, regions: Regions) -> TermLoss:
        """Divergence, at least 0, between correlations of regions.

        Args:
            features: with ``content`` B×C×h×w.
            target: B×E×h×w features on the same grid.
            regions: boxes per image in pixels of the student's view.

        Returns:
            The loss, and :data:`ENTROPIES` of the rows (see :func:`entropy_shares`); that of a matrix of one is 0.

        Raises:
            ValueError: boxes are of another number of images.
        """
        if not len(features.content) == len(target.map) == len(regions.boxes):
            raise ValueError(
                f"features of {len(features.content)} images and of {len(target.map)}, boxes of {len(regions.boxes)}"
            )
        with torch.autocast(features.content.device.type, enabled=False):
            student, teacher = (self._correlations(each, regions.boxes) for each in (features.content, target.map))
            results = [self._distance(*pair) for pair in zip(student, teacher, strict=True)]
        value, entropies = (torch.stack(each).mean(dim=0) for each in zip(*results, strict=True))
        return TermLoss(value, dict(zip(ENTROPIES, entropies.detach(), strict=True)))

    def _correlations(self, features: Tensor, boxes: Sequence[Tensor]) -> Sequence[Tensor]:
        """B×C×h×w → per image m×n×n cosines: one matrix of its k regions, or k matrices of points²."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        boxes = [each.to(features) for each in boxes]
        pooled = roi_align(features, boxes, self.points, spatial_scale=1 / self.patch_size, aligned=True)
        pattern = "k c p q -> k (p q) c" if self.points > 1 else "k c 1 1 -> 1 k c"
        units = [F.normalize(rearrange(each, pattern), dim=2) for each in pooled.split([len(each) for each in boxes])]
        return [each @ each.mT for each in units]

    def _distance(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """m×n×n correlations → the distance of a row, and entropies as shares, means over all rows."""
        rows, length = student.shape[0] * student.shape[1], student.shape[2]
        distances = self.distance(*(rearrange(each, "m i j -> (m i) j") for each in (student, teacher)))
        return distances.total / rows, entropy_shares(distances.entropies / rows, length)
