"""Exact rewritings of small weight products, done once per image instead of once per token or per class.

Everything here is differentiable and costs a few matrix products of hidden size, so that the same code serves
training (gradients reach the ordinary parameters) and inference (nothing is cached, nothing can go stale).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Affine(NamedTuple):
    """A linear map ``x @ weight.T + bias``; weight O×I, bias O (or anything that broadcasts to the output)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the map to the last axis of ``x``."""
        return F.linear(x, self.weight, self.bias)

    def to(self, dtype: torch.dtype) -> "Affine":
        """The same map in another precision."""
        return Affine(self.weight.to(dtype), self.bias.to(dtype))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The precision matrix products on ``x`` should run in: autocast's where it is enabled, else that of ``x``."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def standardize(x: Tensor, dtype: torch.dtype) -> Tensor:
    """LayerNorm over the last axis without its affine part (that is folded into the next map), in ``dtype``."""
    return F.layer_norm(x.to(dtype), x.shape[-1:])


def after_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> Affine:
    """Fold a LayerNorm's scale and shift into the linear map that follows it.

    ``W (gamma * x + beta) + b = (W * gamma) x + (W beta + b)``, with weight O×I and bias O.
    """
    return Affine(weight * norm.weight, bias + weight @ norm.bias)


def upsample_then_convolve(up: nn.ConvTranspose2d, kernel: Tensor) -> Tensor:
    """Compose ``ConvTranspose2d(2, stride 2)`` with the 3×3 convolution after it into one transposed kernel.

    With U the up-convolution's kernel and K the convolution's, output pixel ``2i + t - 1`` receives input pixel i
    through ``sum U[a] K[dy]`` over ``a - dy + 2 = t``: a full correlation of the two kernels.

    Args:
        up: kernel I×M×2×2.
        kernel: O×M×3×3 (of the convolution's input channels, those that come from ``up``).

    Returns:
        I×O×4×4, for ``conv_transpose2d(..., stride=2, padding=1)``. The bias of ``up`` is not included: under zero
        padding its contribution depends on the position (see :mod:`catseg.modeling.decoder`).
    """
    return F.conv2d(up.weight, kernel, padding=2)
