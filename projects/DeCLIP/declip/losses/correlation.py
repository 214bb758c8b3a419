"""The distance between two N×N matrices of relations between tokens, without ever holding one.

Shape legend
    N     tokens          D, E  channels          b  rows of a block          M  student features

The student's matrix holds cosines between its tokens; several student features count by the mean of their matrices,
which is the matrix of their unit vectors laid side by side and divided by the root of M. The teacher's holds cosines,
too, or what an :class:`~declip.teachers.targets.Affinity` says. The distance is a sum over rows, so a block of rows
yields its share of the distance and, at once, its share of the gradient; nothing of size N×N outlives its block, and
nothing is computed twice.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from declip.teachers.targets import Affinity

RowDistance = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Rows b×N of student and teacher → sum of distances, and its slope b×N by the student's rows (which may be reused)."""


def l2_distance(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """``sum_i || S_i - T_i ||_2`` over rows i, and its slope by S (Eq. 8).

    >>> total, slope = l2_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
    >>> total, slope
    (tensor(5.), tensor([[ 0.6000, -0.8000]]))
    """
    difference = student.sub_(teacher)
    norms = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
    return norms.sum(), difference.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny))


DISTANCES: Mapping[str, RowDistance] = {"l2": l2_distance}


class Cosines:
    """The cosines between all tokens of an image, by rows: an :class:`~declip.teachers.targets.Affinity`.

    Args:
        features: N×E.
        dtype: of the products.
    """

    def __init__(self, features: Tensor, dtype: torch.dtype) -> None:
        full = torch.promote_types(features.dtype, torch.float32)
        self.units = (features.to(full) / _norms(features, full)).to(dtype)

    def rows(self, block: slice) -> Tensor:
        """The rows of ``block``, b×N."""
        return self.units[block] @ self.units.T


def correlation_distance(
    student: Sequence[Tensor],
    teacher: Tensor | Affinity,
    distance: RowDistance = l2_distance,
    rows_at_once: int = 256,
) -> Tensor:
    """``sum_i distance(R_i(student), R_i(teacher))`` over rows i of the matrices R.

    Products run in autocast's precision where it is enabled, distances and sums in float32 (or float64).

    Args:
        student: M features N×D; gradients reach them.
        teacher: features N×E, or an affinity of N tokens; a constant.
        distance: of a block of rows.
        rows_at_once: b, so that the largest tensors are b×N.

    Returns:
        A scalar. It can be differentiated once.
    """
    device, full = student[0].device.type, torch.promote_types(student[0].dtype, torch.float32)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else full
    with torch.autocast(device, enabled=False):
        affinity = Cosines(teacher.detach().to(full), dtype) if isinstance(teacher, Tensor) else teacher
        return _CorrelationDistance.apply(affinity, distance, rows_at_once, dtype, *student)


class _CorrelationDistance(Function):
    """With ``G_ij`` the slope of the distance of row i by its entry j, the gradient is ``(G + G^T) units``."""

    @staticmethod
    def forward(
        ctx, teacher: Affinity, distance: RowDistance, rows_at_once: int, dtype: torch.dtype, *student: Tensor
    ) -> Tensor:
        full, scale = torch.promote_types(student[0].dtype, torch.float32), len(student) ** -0.5
        units = torch.cat(student, dim=1).to(full)  # one buffer, normalised in place
        for x, unit in zip(student, units.split([each.shape[1] for each in student], dim=1), strict=True):
            unit.mul_(scale / _norms(x, full))
        own, total = units.to(dtype), units.new_zeros(())
        gradient = torch.zeros_like(units) if any(ctx.needs_input_grad) else None
        for first in range(0, len(units), rows_at_once):
            block = slice(first, first + rows_at_once)
            value, slope = distance((own[block] @ own.T).to(full), teacher.rows(block))
            total += value
            if gradient is not None:
                slope = slope.to(dtype)
                _add_product(gradient[block], slope, own)
                _add_product(gradient, slope.T, own[block])
        if gradient is not None:
            ctx.save_for_backward(*_through_normalization(gradient, units, student, scale))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        return None, None, None, None, *(gradient * upstream for gradient in ctx.saved_tensors)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` in place, without a temporary of its size where the types agree."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _through_normalization(gradient: Tensor, units: Tensor, student: Sequence[Tensor], scale: float) -> list[Tensor]:
    """From the gradient for ``u = scale * x / |x|`` to that for x, in place, feature by feature.

    ``scale / |x| (g - u (u . g) / scale^2)``
    """
    widths = [each.shape[1] for each in student]
    gradients = []
    for x, g, u in zip(student, gradient.split(widths, dim=1), units.split(widths, dim=1), strict=True):
        inward = torch.einsum("nd,nd->n", u, g).unsqueeze(1) / scale**2
        gradients.append(g.addcmul_(u, inward, value=-1).mul_(scale / _norms(x, g.dtype)).to(x.dtype))
    return gradients


def _norms(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Length of each row, N×1, never zero."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=dtype).clamp_min(1e-12)
