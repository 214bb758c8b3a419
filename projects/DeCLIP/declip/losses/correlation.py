"""The distance between two matrices of cosines, without ever holding one.

Shape legend
    N     tokens          D, E  channels          b  rows of a block          M  student features

The matrices are N×N. The loss is a sum over rows, so a block of rows yields its share of the loss and, at once, its
share of the gradient; nothing of size N×N outlives its block, and nothing is computed twice. Several student features
count by the mean of their matrices, which is the matrix of their unit vectors laid side by side and divided by the
root of M.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def correlation_distance(student: Sequence[Tensor], teacher: Tensor, rows_at_once: int = 256) -> Tensor:
    """``sum_i || R_i(student) - R_i(teacher) ||_2`` over rows i of the matrices R of cosines between tokens.

    Products run in autocast's precision where it is enabled, norms and sums in float32 (or float64).

    Args:
        student: M features N×D; gradients reach them.
        teacher: N×E; a constant.
        rows_at_once: b, so that the largest tensors are b×N.

    Returns:
        A scalar. It can be differentiated once.
    """
    device = teacher.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return _CorrelationDistance.apply(teacher.detach(), rows_at_once, dtype, *student)


class _CorrelationDistance(Function):
    @staticmethod
    def forward(ctx, teacher: Tensor, rows_at_once: int, dtype: torch.dtype | None, *student: Tensor) -> Tensor:
        full = torch.promote_types(student[0].dtype, torch.float32)
        with torch.autocast(teacher.device.type, enabled=False):
            scale = len(student) ** -0.5
            units = torch.cat(student, dim=1).to(full)  # one buffer, normalised in place
            for x, unit in zip(student, units.split([each.shape[1] for each in student], dim=1), strict=True):
                unit.mul_(scale / _norms(x, full))
            wanted = any(ctx.needs_input_grad)
            total, gradient = _accumulate(units, teacher.to(full) / _norms(teacher, full), rows_at_once, dtype, wanted)
            if wanted:
                ctx.save_for_backward(*_through_normalization(gradient, units, student, scale))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        return None, None, None, *(gradient * upstream for gradient in ctx.saved_tensors)


def _accumulate(
    student: Tensor, teacher: Tensor, rows_at_once: int, dtype: torch.dtype | None, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The distance and its gradient for the unit vectors S, block by block.

    With ``G_ij = (R_S - R_T)_ij / ||row i||`` the gradient is ``(G + G^T) S``.
    """
    total = student.new_zeros(())
    gradient = torch.zeros_like(student) if with_gradient else None
    own, other = (student, teacher) if dtype is None else (student.to(dtype), teacher.to(dtype))
    for first in range(0, len(student), rows_at_once):
        block = slice(first, first + rows_at_once)
        difference = (own[block] @ own.T).to(student.dtype)
        difference -= other[block] @ other.T
        norms = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
        total += norms.sum()
        if gradient is not None:
            slope = difference.div_(norms.clamp_min_(torch.finfo(norms.dtype).tiny)).to(own.dtype)
            _add_product(gradient[block], slope, own)
            _add_product(gradient, slope.T, own[block])
    return total, gradient


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
