"""The distance between two correlation matrices, without ever holding one.

Shape legend
    N     tokens          D, E  channels          b  rows of a block

The matrices are N×N. The loss is a sum over rows, so a block of rows yields its share of the loss and, at once, its
share of the gradient; nothing of size N×N outlives its block, and nothing is computed twice.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def correlation_distance(student: Tensor, teacher: Tensor, rows_at_once: int = 512) -> Tensor:
    """``sum_i || S_i S^T - T_i T^T ||_2`` over rows i.

    Products run in autocast's precision where it is enabled, norms and sums in that of the inputs.

    Args:
        student: N×D; gradients reach it.
        teacher: N×E; a constant.
        rows_at_once: b, so that the largest tensors are b×N.

    Returns:
        A scalar. It can be differentiated once.
    """
    device = student.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else student.dtype
    return _CorrelationDistance.apply(student, teacher.detach(), rows_at_once, dtype)


class _CorrelationDistance(Function):
    """With G_ij = (R_S - R_T)_ij / ||row i||, the gradient for S is (G + G^T) S."""

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, rows_at_once: int, dtype: torch.dtype) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            total, gradient = _accumulate(student, teacher, rows_at_once, dtype, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


def _accumulate(
    student: Tensor, teacher: Tensor, rows_at_once: int, dtype: torch.dtype, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The distance and its gradient, block by block."""
    total = student.new_zeros(())
    gradient = torch.zeros_like(student) if with_gradient else None
    own, other = student.to(dtype), teacher.to(dtype)
    for rows in torch.arange(len(student), device=student.device).split(rows_at_once):
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        difference = (own[block] @ own.T).to(student.dtype)
        difference -= other[block] @ other.T
        norms = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
        total += norms.sum()
        if gradient is not None:
            slope = (difference / norms.clamp_min(torch.finfo(norms.dtype).tiny)).to(dtype)
            gradient[block] += slope @ own
            gradient += slope.T @ own[block]
    return total, gradient
