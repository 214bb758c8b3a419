"""Spatial aggregation: within each class, tokens attend to their window, guided by the image's appearance.

Shape legend
    B  images         T  classes        N  tokens, h * w       C  hidden channels       G  guidance channels

Source: CAT-Seg (CVPR 2024), Sec. 3.2 "Spatial aggregation": two Swin blocks (plain and shifted windows) whose
queries and keys see ``[cost embedding, appearance guidance]`` and whose values see the cost embedding alone.

A projection of ``[x, g]`` is the sum of a projection of x and one of g. They are two layers here, and that of g, which
is the same for every class, runs once per image.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from catseg.modeling.window_attention import window_attention, window_layout


class AppearanceGuidance(NamedTuple):
    """What the images' appearance adds to the queries and keys of every class, tokens in window order.

    Attributes:
        queries, keys: B×1×N×C.
        groups: of windows, see :class:`catseg.modeling.window_attention.WindowLayout`.
    """

    queries: Tensor
    keys: Tensor
    groups: tuple[tuple[int, int], ...]


class GuidedSwinBlock(nn.Module):
    """Pre-norm window attention and MLP with appearance guidance in the queries and keys.

    Args:
        hidden_dim: C.
        guidance_dim: G.
        num_heads: attention heads, divides C.
        mlp_ratio: width of the MLP over C.
    """

    def __init__(self, hidden_dim: int, guidance_dim: int, num_heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.query, self.query_guidance = guided_linear(hidden_dim, guidance_dim, hidden_dim)
        self.key, self.key_guidance = guided_linear(hidden_dim, guidance_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.project = nn.Linear(hidden_dim, hidden_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, hidden_dim * mlp_ratio)
        self.contract = nn.Linear(hidden_dim * mlp_ratio, hidden_dim)

    def prepare(self, guidance: Tensor, groups: tuple[tuple[int, int], ...]) -> AppearanceGuidance:
        """What is the same for all classes, for normalised guidance B×1×N×G in window order."""
        return AppearanceGuidance(self.query_guidance(guidance), self.key_guidance(guidance), groups)

    def forward(self, x: Tensor, guidance: AppearanceGuidance) -> Tensor:
        """B×T×N×C tokens in window order → the same shape; the residual stream keeps the precision of ``x``."""
        normed = self.norm1(x)
        queries, keys = self.query(normed) + guidance.queries, self.key(normed) + guidance.keys
        attended = window_attention(queries, keys, self.value(normed), guidance.groups, self.num_heads)
        x = x + self.project(attended)
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


class SpatialGuidance(NamedTuple):
    """What images have in store for the two blocks.

    Attributes:
        plain, shifted: guidance of each block.
        into_plain, plain_to_shifted, back_to_raster: indices of tokens, N int64.
    """

    plain: AppearanceGuidance
    shifted: AppearanceGuidance
    into_plain: Tensor
    plain_to_shifted: Tensor
    back_to_raster: Tensor


class SpatialAggregation(nn.Module):
    """A plain-window block followed by a shifted-window block.

    Args:
        guidance_norm: LayerNorm of the guidance, which both blocks share.
        block, shifted_block: see :class:`GuidedSwinBlock`.
        window_size: side of a window in tokens; one that does not divide the grid leaves smaller windows at the
            far edges, one larger than the grid covers it whole.
    """

    def __init__(self, guidance_norm: nn.Module, block: nn.Module, shifted_block: nn.Module, window_size: int) -> None:
        super().__init__()
        self.guidance_norm, self.block, self.shifted_block = guidance_norm, block, shifted_block
        self.window_size = window_size

    def prepare(self, guidance: Tensor, grid: tuple[int, int]) -> SpatialGuidance:
        """What is the same for all classes, for projected appearance B×N×G in raster order on a grid (h, w)."""
        guidance = self.guidance_norm(guidance).unsqueeze(1)
        plain = window_layout(grid, self.window_size, 0)
        shifted = window_layout(grid, self.window_size, self.window_size // 2)
        device = guidance.device
        into_plain, into_shifted = plain.order.to(device), shifted.order.to(device)
        return SpatialGuidance(
            self.block.prepare(guidance.index_select(2, into_plain), plain.groups),
            self.shifted_block.prepare(guidance.index_select(2, into_shifted), shifted.groups),
            into_plain,
            plain.position.to(device)[into_shifted],
            shifted.position.to(device),
        )

    def forward(self, x: Tensor, guidance: SpatialGuidance) -> Tensor:
        """B×T×N×C tokens in raster order → the same shape."""
        x = self.block(x.index_select(2, guidance.into_plain), guidance.plain)
        x = self.shifted_block(x.index_select(2, guidance.plain_to_shifted), guidance.shifted)
        return x.index_select(2, guidance.back_to_raster)


def guided_linear(in_features: int, guidance_features: int, out_features: int) -> tuple[nn.Linear, nn.Linear]:
    """The two halves of a linear layer over ``[x, g]``: one of x with bias, one of g without.

    They are initialised as that one layer of ``in_features + guidance_features`` inputs would be.
    """
    whole = nn.Linear(in_features + guidance_features, out_features)
    own = nn.Linear(in_features, out_features)
    guidance = nn.Linear(guidance_features, out_features, bias=False)
    own.weight.data, guidance.weight.data = (
        half.clone() for half in whole.weight.data.split([in_features, guidance_features], dim=1)
    )
    own.bias.data = whole.bias.data
    return own, guidance
