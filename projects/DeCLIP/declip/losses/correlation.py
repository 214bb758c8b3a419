"""The distance between two N×N matrices of relations between tokens, without ever holding one.

Shape legend
    N     tokens          D, E  channels          b  rows of a block          M  student features

The student's matrix holds cosines between its tokens, or the logits of its attention; several student features count by
the mean of their matrices, which is the matrix of their vectors laid side by side and divided by the root of M. The
teacher's holds cosines, too, or what an :class:`~declip.teachers.targets.Affinity` says. The distance is a sum over
rows, so a block of rows yields its share of the distance and, at once, its share of the gradient; nothing of size N×N
outlives its block, and nothing is computed twice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from declip.losses.distances import RowDistance, l2_distance
from declip.teachers.targets import Affinity, ProductAffinity, cosine_affinity


def correlation_distance(
    student: Sequence[Tensor],
    teacher: Tensor | Affinity,
    distance: RowDistance = l2_distance,
    rows_at_once: int = 256,
    logits: bool = False,
) -> tuple[Tensor, Tensor]:
    """``sum_i distance(R_i(student), R_i(teacher))`` over rows i of the matrices R.

    Products run in autocast's precision where it is enabled, distances and sums in float32 (or float64).

    Args:
        student: M features N×D; gradients reach them.
        teacher: features N×E, or an affinity of N tokens; a constant.
        distance: of a block of rows.
        rows_at_once: b, so that the largest tensors are b×N.
        logits: whether the student's matrix holds ``x_i . x_j / sqrt(D)``, as in its attention, instead of cosines.

    Returns:
        The distance, a scalar that can be differentiated once, and the sums of the entropies of the student's and the
        teacher's rows; none (of size 0) where the distance has none.
    """
    device, full = student[0].device.type, torch.promote_types(student[0].dtype, torch.float32)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else full
    with torch.autocast(device, enabled=False):
        affinity = cosine_affinity(teacher.detach().to(full), dtype) if isinstance(teacher, Tensor) else teacher
        return _CorrelationDistance.apply(affinity, distance, rows_at_once, logits, dtype, *student)


class _CorrelationDistance(Function):
    """With ``G_ij`` the slope of the distance of row i by its entry j, the gradient is ``(G + G^T) vectors``."""

    @staticmethod
    def forward(
        ctx,
        teacher: Affinity,
        distance: RowDistance,
        rows_at_once: int,
        logits: bool,
        dtype: torch.dtype,
        *student: Tensor,
    ) -> tuple[Tensor, Tensor]:
        full, widths = torch.promote_types(student[0].dtype, torch.float32), [each.shape[1] for each in student]
        vectors = torch.cat(student, dim=1).to(full)  # one buffer, scaled in place
        scales = [(width**-0.25 if logits else 1 / _norms(x, full)) for x, width in zip(student, widths, strict=True)]
        scales = [scale * len(student) ** -0.5 for scale in scales]
        for part, scale in zip(vectors.split(widths, dim=1), scales, strict=True):
            part.mul_(scale)
        own, total, entropies = ProductAffinity(*[vectors.to(dtype)] * 2), vectors.new_zeros(()), vectors.new_zeros(2)
        gradient = torch.zeros_like(vectors) if any(ctx.needs_input_grad) else None
        for first in range(0, len(vectors), rows_at_once):
            block = slice(first, first + rows_at_once)
            distances = distance(own.rows(block).to(full), teacher.rows(block))
            total += distances.total
            entropies = None if distances.entropies is None else entropies.add_(distances.entropies)
            if gradient is not None:
                slope = distances.slope.to(dtype)
                _add_product(gradient[block], slope, own.right)
                _add_product(gradient, slope.T, own.right[block])
        if gradient is not None:
            if not logits:
                _through_normalization(gradient, vectors, widths)
            for part, scale in zip(gradient.split(widths, dim=1), scales, strict=True):
                part.mul_(scale)
            ctx.save_for_backward(*(part.to(student[0].dtype) for part in gradient.split(widths, dim=1)))
        entropies = vectors.new_zeros(0) if entropies is None else entropies
        ctx.mark_non_differentiable(entropies)
        return total, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor, _: Tensor):
        return None, None, None, None, None, *(gradient * upstream for gradient in ctx.saved_tensors)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` in place, without a temporary of its size where the types agree."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _through_normalization(gradient: Tensor, vectors: Tensor, widths: Sequence[int]) -> None:
    """Take out of a gradient by ``v = x / (sqrt(M) |x|)`` what lies along v, in place, feature by feature."""
    for g, v in zip(gradient.split(widths, dim=1), vectors.split(widths, dim=1), strict=True):
        inward = torch.einsum("nd,nd->n", v, g).unsqueeze(1) * len(widths)
        g.addcmul_(v, inward, value=-1)


def _norms(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Length of each row, N×1, never zero."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype).clamp_min(1e-12)
