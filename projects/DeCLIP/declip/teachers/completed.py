"""Affinities of a foundation model completed by what a diffusion model takes for one object (SD-GSC).

Shape legend
    B     images of one grid        E  channels of the foundation model
    h, w  grid, N = h * w           S  N×N cosines of the foundation model, A  N×N attention of the diffusion model
"""

from collections.abc import Sequence
from enum import Enum

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from d2host.engine.tensor_cache import TensorCache
from declip.teachers.base import FrozenTeacher, Views
from declip.teachers.diffusion.model import DiffusionAttention
from declip.teachers.foundation import FoundationTeacher
from declip.teachers.targets import CompletedFeatures, ProductAffinity

ROWS = 512  # of A that are multiplied at a time


class Order(str, Enum):
    """Which factor of the completed affinity stands first; rows of A sum to 1."""

    AFFINITY = "affinity"  # S A: a token's affinities, each spread over the object it leads to
    ATTENTION = "attention"  # A S: the mean affinities of the tokens of a token's object


class Completed(FrozenTeacher):
    """A foundation model's features, and their cosines S completed by a diffusion model's self-attention A.

    Neither S nor ``S A`` is ever whole: with unit features U, S is ``U U^T``, so that ``S A = U (A^T U)^T`` and
    ``A S = (A U) U^T``: products of two N×E factors. Of A, which is whole in half precision, blocks of rows alone take
    part in them at a time.

    Args:
        foundation: gives the features.
        diffusion: gives A.
        order: of the factors.
        cache: of A; None: it is computed each time.

    Source: generalized DeCLIP (arXiv 2508.11256), SD-GSC: "S_VFM × A_self".
    """

    gives = CompletedFeatures

    def __init__(
        self,
        foundation: FoundationTeacher,
        diffusion: DiffusionAttention,
        order: Order = Order.AFFINITY,
        cache: TensorCache | None = None,
    ) -> None:
        super().__init__()
        self.foundation, self.diffusion, self.order, self.cache = foundation, diffusion, order, cache
        self.requires_grad_(False).eval()

    @property
    def patch_size(self) -> int:
        """Pixels per token of the foundation model's view."""
        return self.foundation.patch_size

    @torch.no_grad()
    def forward(self, features: Tensor, images: Tensor, digests: Sequence[str]) -> tuple[ProductAffinity, ...]:
        """The completed affinity of each image.

        Args:
            features: B×E×h×w of the foundation model.
            images: B×3×…×… in 0..255, as the diffusion model sees them.
            digests: texts that stand for them.

        Returns:
            In autocast's precision where it is enabled.
        """
        grid, device = features.shape[2:], features.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else features.dtype
        affinities = []
        with torch.autocast(device.type, enabled=False):
            units = F.normalize(rearrange(features, "b e h w -> b (h w) e"), dim=2).to(dtype)
            for own, image, digest in zip(units, images, digests, strict=True):
                attention = self._attention(image, grid, digest)
                if self.order is Order.AFFINITY:
                    spread = torch.zeros_like(own, dtype=torch.promote_types(dtype, torch.float32))
                    for rows, features_of_rows in zip(attention.split(ROWS), own.split(ROWS), strict=True):
                        spread += rows.to(dtype).T @ features_of_rows
                    affinities.append(ProductAffinity(own, spread.to(dtype)))
                else:
                    means = torch.cat([rows.to(dtype) @ own for rows in attention.split(ROWS)])
                    affinities.append(ProductAffinity(means, own))
        return tuple(affinities)

    def teach(self, views: Views) -> CompletedFeatures:
        """Features and completed affinities of images."""
        features = self.foundation.teach(views).map
        return CompletedFeatures(map=features, images=self(features, views.diffusion, views.digests))

    def _attention(self, image: Tensor, grid: tuple[int, int], digest: str) -> Tensor:
        """A of an image, from the cache or into it: rounded to half precision in both cases, so it is the same."""
        tokens = grid[0] * grid[1]
        kept = self.cache.get(digest, {"attention": (tokens, tokens)}) if self.cache else None
        if kept is None:
            kept = {"attention": self.diffusion(image, grid, digest).half()}
            if self.cache:
                self.cache.put(digest, kept)
        return kept["attention"].to(image.device)
