"""The context loss: tokens of the student belong together as those of a vision foundation model do.

Shape legend
    B     images                          D  channels of a context feature
    h, w  grid of tokens, N = h * w       E  channels of the foundation model
    R     N×N correlations of an image
"""

import torch
from einops import rearrange
from torch import Tensor

from declip.losses.base import ENTROPIES, DistillationLoss, StudentFeature, TermLoss, entropy_shares
from declip.losses.correlation import correlation_distance
from declip.losses.distances import RowDistance, l2_distance
from declip.models.features import DenseFeatures
from declip.teachers.targets import Affinities, Features


class ContextLoss(DistillationLoss):
    """``mean_i || R_i(teacher) - R_i(student) ||_2`` over the tokens i of an image, mean over images.

    R holds the cosines between all tokens, of the teacher also what an :class:`Affinity` says instead. Several
    features of the student (context type ``qk``) count by the mean of their matrices. With
    :class:`~declip.losses.distances.KLDistance`, rows are distributions over tokens, and the distance is a divergence.

    Source: DeCLIP (CVPR 2025), Eq. 8-9; generalized DeCLIP (arXiv 2508.11256) for the divergence.

    Args:
        feature: of the student that learns: ``context``, as in DeCLIP, or ``content``, which a student that is not
            decoupled has alone (Table 1).
        distance: between rows.
        rows_at_once: rows of R that exist at a time.
        logits: whether R of the student holds the logits of its attention (Eq. 6, all heads as one) instead of cosines.

    >>> features = DenseFeatures(content=torch.randn(1, 512, 4, 6), context=(torch.randn(1, 24, 768),), hidden={})
    >>> loss = ContextLoss()(features, Features(torch.randn(1, 384, 4, 6)))
    >>> bool(loss.value > 0)
    True
    """

    needs = (Features | Affinities,)

    def __init__(
        self,
        feature: StudentFeature | str = StudentFeature.CONTEXT,
        distance: RowDistance = l2_distance,
        rows_at_once: int = 256,
        logits: bool = False,
    ) -> None:
        super().__init__()
        self.feature, self.distance = StudentFeature(feature), distance
        self.rows_at_once, self.logits = rows_at_once, logits

    def forward(self, features: DenseFeatures, target: Features | Affinities) -> TermLoss:
        """Distance, at least 0, between the student's correlations of tokens and the teacher's.

        Args:
            features: with ``context`` (each B×N×D) or ``content`` (B×C×h×w), as ``feature`` says.
            target: B×E×h×w features on the same grid, or an affinity per image, which counts where there are both.

        Returns:
            The loss and, of a distance between distributions, :data:`ENTROPIES` (see :func:`entropy_shares`).

        Raises:
            ValueError: the student has no such feature, or the teacher another grid.
        """
        student = features.context if self.feature is StudentFeature.CONTEXT else (_tokens(features.content),)
        if not student:
            raise ValueError("features have no context: give the student a decoupled context type")
        teacher = target.images if isinstance(target, Affinities) else _tokens(target.map)
        images, tokens = student[0].shape[:2]
        if len(teacher) != images or (isinstance(teacher, Tensor) and teacher.shape[1] != tokens):
            theirs = tuple(teacher.shape[:2]) if isinstance(teacher, Tensor) else len(teacher)
            raise ValueError(f"features of {images} images with {tokens} tokens, but the target has {theirs}")
        results = [
            correlation_distance(own, other, self.distance, self.rows_at_once, self.logits)
            for *own, other in zip(*student, teacher, strict=True)
        ]
        distance, entropies = (torch.stack(each).mean(dim=0) / tokens for each in zip(*results, strict=True))
        return TermLoss(distance, dict(zip(ENTROPIES, entropy_shares(entropies, tokens), strict=False)))


def _tokens(features: Tensor) -> Tensor:
    return rearrange(features, "b c h w -> b (h w) c")
