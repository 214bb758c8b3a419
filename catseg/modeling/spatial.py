"""Spatial aggregation: within each class, tokens attend to their window, guided by the image's appearance.

Shape legend
    T  classes        N  tokens, h * w       C  hidden channels       G  guidance channels

Source: CAT-Seg (CVPR 2024), Sec. 3.2 "Spatial aggregation": two Swin blocks (plain and shifted windows) whose
queries and keys see ``[cost embedding, appearance guidance]`` and whose values see the cost embedding alone.

The guidance is the same for every class, so its share of the query and key projections is computed once per image
and enters every class as a bias per token: ``W [x, g] = W_x x + W_g g``.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg.modeling.folding import Affine, after_norm, compute_dtype, standardize
from catseg.modeling.regions import region_attention, region_layout


class FoldedSwinBlock(NamedTuple):
    """A block's weights for one image: norms, attention scale and guidance folded in."""

    queries_keys_values: Tensor  # 3C×C
    guidance: Tensor  # N×3C, added to every class
    project: Affine  # C×C
    expand: Affine  # 4C×C
    contract: Affine  # C×4C


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
        self.query = nn.Linear(hidden_dim + guidance_dim, hidden_dim)
        self.key = nn.Linear(hidden_dim + guidance_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.project = nn.Linear(hidden_dim, hidden_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, hidden_dim * mlp_ratio)
        self.contract = nn.Linear(hidden_dim * mlp_ratio, hidden_dim)

    def fold(self, guidance: Tensor, dtype: torch.dtype) -> FoldedSwinBlock:
        """Everything that is the same for all classes, for normalised guidance N×G in this block's token order."""
        hidden_dim = self.value.in_features
        scale = (hidden_dim // self.num_heads) ** -0.5
        query_weight, query_guidance = (scale * self.query.weight).split([hidden_dim, guidance.shape[-1]], dim=1)
        key_weight, key_guidance = self.key.weight.split([hidden_dim, guidance.shape[-1]], dim=1)
        image = after_norm(
            self.norm1,
            torch.cat([query_weight, key_weight, self.value.weight]),
            torch.cat([scale * self.query.bias, self.key.bias, self.value.bias]),
        )
        shared = F.linear(guidance, torch.cat([query_guidance, key_guidance]))  # N, 2C
        return FoldedSwinBlock(
            image.weight.to(dtype),
            (F.pad(shared, (0, hidden_dim)) + image.bias).to(dtype),
            Affine(self.project.weight, self.project.bias).to(dtype),
            after_norm(self.norm2, self.expand.weight, self.expand.bias).to(dtype),
            Affine(self.contract.weight, self.contract.bias).to(dtype),
        )

    def forward(self, x: Tensor, folded: FoldedSwinBlock, groups: tuple[tuple[int, int], ...]) -> Tensor:
        """T×N×C tokens in region order → the same shape; the residual stream keeps the precision of ``x``."""
        dtype = folded.queries_keys_values.dtype
        queries_keys_values = F.linear(standardize(x, dtype), folded.queries_keys_values)
        queries_keys_values = queries_keys_values.add_(folded.guidance)
        x = x + folded.project(region_attention(queries_keys_values, groups, self.num_heads))
        return x + folded.contract(F.gelu(folded.expand(standardize(x, dtype))))


class SpatialAggregation(nn.Module):
    """A plain-window block followed by a shifted-window block.

    Args:
        hidden_dim: C.
        guidance_dim: G.
        num_heads: attention heads.
        window_size: side of a window in tokens; one that does not divide the grid leaves smaller windows at the
            far edges, one larger than the grid covers it whole.
    """

    def __init__(self, hidden_dim: int, guidance_dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.guidance_norm = nn.LayerNorm(guidance_dim)
        self.block = GuidedSwinBlock(hidden_dim, guidance_dim, num_heads)
        self.shifted_block = GuidedSwinBlock(hidden_dim, guidance_dim, num_heads)

    def for_image(self, guidance: Tensor, grid: tuple[int, int]):
        """Prepare one image: the returned function aggregates any number of its classes.

        Args:
            guidance: N×G projected appearance guidance, raster order.
            grid: (h, w).

        Returns:
            A function from T×N×C tokens in raster order to the same shape.
        """
        dtype = compute_dtype(guidance)
        guidance = self.guidance_norm(guidance.float() if dtype != torch.float64 else guidance)
        plain = region_layout(grid, self.window_size, 0)
        shifted = region_layout(grid, self.window_size, self.window_size // 2)
        into_plain = plain.order.to(guidance.device)
        into_shifted = shifted.order.to(guidance.device)
        plain_to_shifted = plain.position.to(guidance.device)[into_shifted]
        back_to_raster = shifted.position.to(guidance.device)
        with torch.autocast(guidance.device.type, enabled=False):
            folded = self.block.fold(guidance[into_plain], dtype)
            folded_shifted = self.shifted_block.fold(guidance[into_shifted], dtype)

        def aggregate(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                x = self.block(x.index_select(1, into_plain), folded, plain.groups)
                x = self.shifted_block(x.index_select(1, plain_to_shifted), folded_shifted, shifted.groups)
                return x.index_select(1, back_to_raster)

        return aggregate
