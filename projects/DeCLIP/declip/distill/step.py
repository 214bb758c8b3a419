"""One distillation step: a student, its teachers, and the sum of what it has to learn from them.

Shape legend
    B     images of one grid    K  crops of all of them
    h, w  their grid

Images of different shapes have different grids; those of a batch that share one go through the models together.

Source: DeCLIP (CVPR 2025), Sec. 3.2, Eq. 10; Table 1 for other lists of terms.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from declip.distill.dataset import views_by_grid
from declip.distill.student import interpolate
from declip.losses import DistillationLoss, StudentFeature
from declip.models.encoder import DenseCLIP
from declip.teachers.base import FrozenTeacher


class Distillation(nn.Module):
    """Batch in, weighted losses out: their sum is Eq. 10, and what is measured on the way is no part of it.

    The teachers belong to the module, so that they move with it, but neither train nor are part of its state.

    Args:
        student: learns.
        teachers: by name; together they give the targets that the terms need.
        terms: the losses, by name.
        weights: their factors.
        original: the student before training, where the weights to keep are interpolated with its own; may be that of
            a teacher.
        ensemble_alpha: share of the student in the weights to keep; 1: the student itself.

    Raises:
        ValueError: no teacher gives what a term needs, or the student has not the feature that it reads.

    >>> from declip import build_encoder
    >>> from declip.distill.student import frozen_copy
    >>> from declip.losses import ContentLoss
    >>> from declip.teachers.clip import ClipTeacher
    >>> student = build_encoder("nano", "nano-clip")
    >>> terms = {"content": ContentLoss(student.patch_size)}
    >>> model = Distillation(student, {"clip": ClipTeacher(frozen_copy(student))}, terms, {"content": 1.0})
    >>> image, crop = (torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for side in (96, 64))
    >>> sample = {"student": image, "crops": crop[None], "boxes": torch.tensor([[0.0, 0.0, 96.0, 96.0]])}
    >>> list(model([sample]))
    ['loss_content']
    """

    def __init__(
        self,
        student: DenseCLIP,
        teachers: Mapping[str, FrozenTeacher],
        terms: Mapping[str, DistillationLoss],
        weights: Mapping[str, float],
        original: DenseCLIP | None = None,
        ensemble_alpha: float = 1.0,
    ) -> None:
        super().__init__()
        for name, term in terms.items():
            for kind in term.needs:
                if not any(issubclass(teacher.gives, kind) for teacher in teachers.values()):
                    raise ValueError(f"terms: '{name}' needs {kind}, which none of teachers {[*teachers]} gives")
            if term.feature is StudentFeature.CONTEXT and not student.context.decoupled:
                raise ValueError(f"terms: '{name}' needs a context feature, which '{student.context.value}' has not")
        self.student, self.teachers = student, nn.ModuleDict(teachers).eval()
        self.terms, self.weights = nn.ModuleDict(terms), dict(weights)
        self.original, self.ensemble_alpha = original, ensemble_alpha

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """The weighted loss of each term, as ``loss_<name>``, and what it measures, as ``<name>/…``: means over images.

        Args:
            batch: samples of :class:`declip.distill.dataset.DistillationDataset`.
        """
        results: dict[str, Tensor | float] = defaultdict(float)
        for views in views_by_grid(batch, self.device):
            features = self.student.encode_dense(self.student.normalize(views.student))
            targets = [teacher.teach(views) for teacher in self.teachers.values()]
            for name, term in self.terms.items():
                needed = (next(each for each in targets if isinstance(each, kind)) for kind in term.needs)
                loss, share = term(features, *needed), len(views) / len(batch)
                results[f"loss_{name}"] += self.weights[name] * share * loss.value
                for measure, value in loss.measures.items():
                    results[f"{name}/{measure}"] += share * value
        return dict(results)

    def encoder(self) -> DenseCLIP:
        """What is evaluated and saved: the student, or its interpolation with the original."""
        if self.ensemble_alpha == 1:
            return self.student
        return interpolate(self.student, self.original, self.ensemble_alpha)

    @property
    def device(self) -> torch.device:
        """Where the student computes."""
        return self.student.pixel_mean.device

    def train(self, mode: bool = True) -> "Distillation":
        """Only the student changes its mode."""
        self.training = mode
        self.student.train(mode)
        return self

    def state_dict(self, *, destination: dict | None = None, prefix: str = "", keep_vars: bool = False) -> dict:
        """The student's tensors, as ``student.…``: a checkpoint neither holds the teachers nor needs them."""
        return self.student.state_dict(destination=destination, prefix=f"{prefix}student.", keep_vars=keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what :meth:`state_dict` gave; the teachers stay as they are."""
        own = {name.removeprefix("student."): tensor for name, tensor in state_dict.items()}
        return self.student.load_state_dict(own, strict, assign)
