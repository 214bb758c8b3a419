"""Rotary position embedding: queries and keys turned by angles that tell where in the grid they are.

Shape legend
    B, H  images and heads        L  tokens, prefix first        d  channels per head, in pairs
    h, w  grid of patches

A pair of channels (a, b) becomes (a cos - b sin, b cos + a sin). Prefix tokens are nowhere and keep their direction.

Source: RoFormer (arXiv 2104.09864), Eq. 34; in two dimensions as EVA-02 (arXiv 2303.11331) has it.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import RotaryEmbeddingCat, build_rotary_pos_embed
from torch import Tensor


class Rotary(NamedTuple):
    """The angles of every token of a grid, float32.

    Attributes:
        cosines: L×d.
        sines: L×d, negative in the first channel of each pair.
    """

    cosines: Tensor
    sines: Tensor

    @classmethod
    def of(cls, rope: RotaryEmbeddingCat, grid: tuple[int, int], num_prefix_tokens: int, device: torch.device):
        """Angles of a grid (h, w) in the coordinates of the tower's reference grid.

        Args:
            rope: timm's description of the tower's embedding.
        """
        sines, cosines = build_rotary_pos_embed(
            grid,
            dim=rope.dim,
            max_res=rope.max_res,
            temperature=rope.temperature,
            linear_bands=rope.linear_bands,
            in_pixels=rope.in_pixels,
            ref_feat_shape=rope.ref_feat_shape,
            grid_offset=rope.grid_offset,
            grid_indexing=rope.grid_indexing,
            device=device,
        )
        sines = (sines.unflatten(-1, (-1, 2)) * sines.new_tensor([-1.0, 1.0])).flatten(-2)
        prefix = (0, 0, num_prefix_tokens, 0)
        return cls(F.pad(cosines, prefix, value=1.0), F.pad(sines, prefix))

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys of the first tokens, B×H×L×d, turned; computed in float32, returned in their own type."""
        count = x.shape[-2]
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return torch.addcmul(x * self.cosines[:count], swapped, self.sines[:count]).to(x.dtype)
