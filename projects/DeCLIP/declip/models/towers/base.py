"""What the encoder needs to know about an image tower.

Shape legend
    B     images                         L   tokens: prefix (class token) then h*w patches in raster order
    h, w  grid of patches                D   width of the tower       E   width of the shared image-text space
    H, d  heads and channels per head
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from declip.models.towers.rotary import Rotary


class Tokens(NamedTuple):
    """A tower's tokens on their way through the blocks."""

    x: Tensor  # B×L×D
    rotary: Rotary | None = None  # angles of the grid, for towers that turn queries and keys


class ImageTower(ABC):
    """A vision transformer as open_clip built it, seen block by block.

    The adapter owns no parameters: it refers to those of ``visual``.

    Attributes:
        patch_size: side of a patch, pixels.
        image_size: native side of the input, pixels.
        width: D.
        num_heads: H.
        num_prefix_tokens: tokens before the patches.
        pooled_tokens: how many of the first tokens the image embedding depends on once all blocks have run; None: all.
        freeze_keys: whether gradients stop at the key rows of a projection that queries, keys and values share.
    """

    patch_size: int
    image_size: int
    width: int
    num_heads: int
    num_prefix_tokens: int
    pooled_tokens: int | None = None
    freeze_keys: bool = False

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tokens:
        """Normalised images B×3×(h*patch)×(w*patch) → tokens with positions for that grid."""

    @abstractmethod
    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """Block ``index`` exactly as CLIP has it; what comes out are the first ``count`` tokens, or all."""

    @abstractmethod
    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the last block, each B×L×D (heads concatenated), without rotary embedding."""

    @abstractmethod
    def last_output(self, attended: Tensor) -> Tensor:
        """The last block's output projection (after its inner norm, if any), B×L×D → B×L×D."""

    @abstractmethod
    def last_feed_forward(self, x: Tensor) -> Tensor:
        """The last block's feed-forward half with its residual, B×L×D → B×L×D."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Final norm and projection of every token to the shared space, B×L×D → B×L×E."""

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """The image embedding of the last block's output as CLIP has it, B×L×D → B×E."""

    def split_heads(self, x: Tensor) -> Tensor:
        """B×L×D → B×H×L×d."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def merge_heads(self, x: Tensor) -> Tensor:
        """B×H×L×d → B×L×D."""
        return x.transpose(1, 2).flatten(2)


def resample_positions(positions: Tensor, grid: tuple[int, int], num_prefix_tokens: int) -> Tensor:
    """Positional embeddings for another grid: bicubic without antialiasing, prefix tokens and native size untouched.

    Args:
        positions: (prefix + s*s)×D, learned on a square grid.
        grid: (h, w) wanted.
        num_prefix_tokens: leading rows that belong to no patch.

    Returns:
        (prefix + h*w)×D.
    """
    prefix, patches = positions.split([num_prefix_tokens, len(positions) - num_prefix_tokens])
    side = round(len(patches) ** 0.5)
    if grid == (side, side):
        return positions
    patches = patches.T.unflatten(1, (side, side))[None]
    patches = F.interpolate(patches.float(), size=grid, mode="bicubic", align_corners=False).to(positions.dtype)
    return torch.cat([prefix, patches[0].flatten(1).T])
