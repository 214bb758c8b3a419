"""One distillation step: a student, its two teachers, and the sum of their losses.

Shape legend
    B     images of one grid    K  crops of all of them
    h, w  their grid            c  side of the crops, pixels

Images of different shapes have different grids; those of a batch that share one go through the models together.

Source: DeCLIP (CVPR 2025), Sec. 3.2, Eq. 10; Table 1 for the forms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from declip.distill.dataset import by_grid, stack_views
from declip.losses.terms import content_loss, context_loss
from declip.models.encoder import DenseCLIP, DenseFeatures
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher


class DistillationForm(str, Enum):
    """Which feature learns the foundation model's correlations (the rows of Table 1)."""

    DECOUPLED = "decoupled"  # the context feature: DeCLIP
    JOINT = "joint"  # the content feature, which learns from CLIP too
    SELF = "self"  # none: self-distillation only, as in CLIPSelf


@dataclass(frozen=True)
class LossWeights:
    """Factors of Eq. 10."""

    content: float = 1.0
    context: float = 0.25


@dataclass(frozen=True)
class Teachers:
    """What the student learns from; no part of the model, so neither saved nor trained with it.

    Attributes:
        clip: embeds crops.
        foundation: gives the correlations to learn; None for the form ``self``.
    """

    clip: ClipTeacher
    foundation: FoundationTeacher | None


class Distillation(nn.Module):
    """Batch in, losses out.

    Args:
        student: trains.
        teachers: on the student's device.
        form: see :class:`DistillationForm`.
        weights: of the losses.
        rows_at_once: rows of a correlation matrix that exist at a time.
    """

    def __init__(
        self,
        student: DenseCLIP,
        teachers: Teachers,
        form: DistillationForm = DistillationForm.DECOUPLED,
        weights: LossWeights | None = None,
        rows_at_once: int = 256,
    ) -> None:
        super().__init__()
        self.student, self.teachers = student, teachers
        self.form, self.weights, self.rows_at_once = form, weights or LossWeights(), rows_at_once

    @property
    def device(self) -> torch.device:
        """Where the student computes."""
        return self.student.pixel_mean.device

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """Weighted losses, whose sum is Eq. 10.

        Args:
            batch: samples of :class:`declip.distill.dataset.DistillationDataset`.

        Returns:
            ``loss_content`` and, unless the form is ``self``, ``loss_context``.
        """
        losses: dict[str, Tensor] = {}
        for group in by_grid(batch):
            for name, loss in self._losses_of(group).items():
                losses[name] = losses.get(name, 0) + loss * (len(group) / len(batch))
        return losses

    def _losses_of(self, group: Sequence[dict]) -> dict[str, Tensor]:
        """Weighted losses of images that share a grid; each is a mean over images."""
        images = stack_views(group, "student", self.device)
        features = self.student.encode_dense(self.student.normalize(images))
        losses = {"loss_content": self.weights.content * self._content(features, group)}
        if self.form is not DistillationForm.SELF:
            losses["loss_context"] = self.weights.context * self._context(features, group)
        return losses

    def _content(self, features: DenseFeatures, group: Sequence[dict]) -> Tensor:
        crops = torch.cat([sample["crops"] for sample in group]).to(self.device, non_blocking=True).float()
        boxes = [sample["boxes"] for sample in group]
        return content_loss(features.content, boxes, self.teachers.clip(crops), self.student.patch_size)

    def _context(self, features: DenseFeatures, group: Sequence[dict]) -> Tensor:
        teacher = self.teachers.foundation
        correlated = teacher(teacher.normalize(stack_views(group, "teacher", self.device)))
        own = features.context if self.form is DistillationForm.DECOUPLED else (_tokens(features.content),)
        return context_loss(own, _tokens(correlated), rows_at_once=self.rows_at_once)


def _tokens(features: Tensor) -> Tensor:
    """B×C×h×w → B×(h*w)×C."""
    return features.flatten(2).transpose(1, 2)
