"""The context loss: tokens of the student belong together as those of a vision foundation model do.

Shape legend
    B     images                          D  channels of a context feature
    h, w  grid of tokens, N = h * w       E  channels of the foundation model
    R     N×N correlations of an image
"""

import torch
from einops import rearrange
from torch import Tensor

from declip.losses.base import DistillationLoss, StudentFeature
from declip.losses.correlation import DISTANCES, correlation_distance
from declip.models.features import DenseFeatures
from declip.teachers.targets import Affinities, Features


class ContextLoss(DistillationLoss):
    """``mean_i || R_i(teacher) - R_i(student) ||_2`` over the tokens i of an image, mean over images.

    R holds the cosines between all tokens, of the teacher also what an :class:`Affinity` says instead. Several
    features of the student (context type ``qk``) count by the mean of their matrices.

    Source: DeCLIP (CVPR 2025), Eq. 8-9.

    Args:
        feature: of the student that learns: ``context``, as in DeCLIP, or ``content``, which a student that is not
            decoupled has alone (Table 1).
        distance: between rows, one of :data:`declip.losses.correlation.DISTANCES`.
        rows_at_once: rows of R that exist at a time.

    >>> features = DenseFeatures(content=torch.randn(1, 512, 4, 6), context=(torch.randn(1, 24, 768),), hidden={})
    >>> loss = ContextLoss()(features, Features(torch.randn(1, 384, 4, 6)))
    >>> bool(loss > 0)
    True
    """

    needs = (Features | Affinities,)

    def __init__(
        self,
        feature: StudentFeature | str = StudentFeature.CONTEXT,
        distance: str = "l2",
        rows_at_once: int = 256,
    ) -> None:
        super().__init__()
        self.feature, self.distance, self.rows_at_once = StudentFeature(feature), DISTANCES[distance], rows_at_once

    def forward(self, features: DenseFeatures, target: Features | Affinities) -> Tensor:
        """Distance, at least 0, between the student's correlations of tokens and the teacher's.

        Args:
            features: with ``context`` (each B×N×D) or ``content`` (B×C×h×w), as ``feature`` says.
            target: B×E×h×w features on the same grid, or an affinity per image.

        Raises:
            ValueError: the student has no such feature, or the teacher another grid.
        """
        student = features.context if self.feature is StudentFeature.CONTEXT else (_tokens(features.content),)
        if not student:
            raise ValueError("features have no context: give the student a decoupled context type")
        teacher = _tokens(target.map) if isinstance(target, Features) else target.images
        images, tokens = student[0].shape[:2]
        if len(teacher) != images or (isinstance(teacher, Tensor) and teacher.shape[1] != tokens):
            theirs = tuple(teacher.shape[:2]) if isinstance(teacher, Tensor) else len(teacher)
            raise ValueError(f"features of {images} images with {tokens} tokens, but the target has {theirs}")
        distances = [
            correlation_distance(own, other, self.distance, self.rows_at_once) / tokens
            for *own, other in zip(*student, teacher, strict=True)
        ]
        return torch.stack(distances).mean()


def _tokens(features: Tensor) -> Tensor:
    return rearrange(features, "b c h w -> b (h w) c")
