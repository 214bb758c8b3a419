"""What the encoder needs to know about an image tower.

Shape legend
    B     images                         L   tokens: prefix (class token) then h*w patches in raster order
    h, w  grid of patches                D   width of the tower       E   width of the shared image-text space
    d     channels per head
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from declip.models.fused import fused_form


class Tokens(NamedTuple):
    """A tower's tokens on their way through the blocks.

    Attributes:
        x: B×L×D.
        rope: h*w×2d sines and cosines, as timm's blocks take them; None in towers that turn no queries and keys.
    """

    x: Tensor
    rope: Tensor | None = None


class ImageTower(ABC):
    """A vision transformer as open_clip built it, seen block by block: its own modules are called, one after another.

    The adapter owns no parameters: it refers to those of ``visual``.

    Attributes:
        patch_size: side of a patch, pixels.
        image_size: native side of the input, pixels.
        width: D.
        embed_dim: E.
        num_heads: attention heads.
        num_prefix_tokens: tokens before the patches.
        pooled_tokens: how many of the first tokens the image embedding depends on once all blocks have run; None: all.
        norms_first: whether a block norms what its attention takes, not what it gives.
    """

    patch_size: int
    image_size: int
    width: int
    embed_dim: int
    num_heads: int
    num_prefix_tokens: int
    pooled_tokens: int | None = None
    norms_first: bool = True

    @staticmethod
    @abstractmethod
    def missing(visual: nn.Module) -> str:
        """What keeps open_clip's module from being such a tower, in words; empty where nothing does."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""

    @abstractmethod
    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """Normalised images B×3×(h*patch)×(w*patch) → tokens with positions for that grid.

        Args:
            images: the images.
            drop_patches: let the tower's patch dropout act in training, which leaves no grid behind.
        """

    def rotary_embedding(self, grid: tuple[int, int], device: torch.device) -> Tensor | None:
        """What turns queries and keys on a grid of patches (see :class:`Tokens`); None: nothing does."""
        return None

    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """Tokens after block ``index``, run as CLIP has it.

        Without gradients a block may run in a faster form of the same result (:mod:`declip.models.fused`).

        Args:
            index: of the block.
            tokens: that enter it.
            count: how many of the first tokens are wanted; None: all. The others may be left out.
        """
        block = self.blocks[index]
        fused = fused_form(block)
        if fused is not None:
            return tokens._replace(x=fused(block, tokens.x, tokens.rope, count))
        rope = {} if tokens.rope is None else {"rope": tokens.rope}
        return tokens._replace(x=block(tokens.x, **rope))

    @abstractmethod
    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the last block, each B×L×D (heads concatenated), without rotary embedding."""

    @abstractmethod
    def last_output(self, attended: Tensor) -> Tensor:
        """The last block's output projection (after its inner norm, if any), B×L×D → B×L×D."""

    @abstractmethod
    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """What the last block makes of its attention's output B×L×D and a residual that broadcasts to it, B×L×D."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Final norm and projection of every token to the shared space, B×L×D → B×L×E."""

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """The image embedding of the last block's output as CLIP has it, B×L×D → B×E."""
