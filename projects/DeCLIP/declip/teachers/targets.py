"""What teachers tell a student about images.

Shape legend
    B     images of one grid          C  width of the shared image-text space
    h, w  their grid, N = h * w       E  channels of the teacher
    K     crops of all the images     b  rows asked for at a time
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Parts of the images.

    Attributes:
        boxes: per image K_i×4 (x0, y0, x1, y1), in pixels of the student's view.
    """

    boxes: tuple[Tensor, ...]


@dataclass(frozen=True)
class CropEmbeddings(Regions):
    """Embeddings of parts of the images, each seen as an image of its own.

    Attributes:
        embeddings: K×C, in the order of ``boxes``.
    """

    embeddings: Tensor


@dataclass(frozen=True)
class Features:
    """One feature for every token of the student.

    Attributes:
        map: B×E×h×w.
    """

    map: Tensor


class Affinity(Protocol):
    """How strongly each token of one image belongs to each other: an N×N matrix of which only blocks of rows exist."""

    def rows(self, block: slice) -> Tensor:
        """The rows of ``block``, b×N."""


@dataclass(frozen=True)
class ProductAffinity:
    """An affinity that is a product of two factors, ``left @ right^T``.

    Attributes:
        left, right: N×E.
    """

    left: Tensor
    right: Tensor

    def rows(self, block: slice) -> Tensor:
        """The rows of ``block``, b×N."""
        return self.left[block] @ self.right.T


def cosine_affinity(features: Tensor, dtype: torch.dtype) -> ProductAffinity:
    """The cosines between N features.

    Args:
        features: N×E; none is zero.
        dtype: of the products.

    >>> cosine_affinity(torch.tensor([[2.0, 0.0], [3.0, 3.0]]), torch.float32).rows(slice(0, 1))
    tensor([[1.0000, 0.7071]])
    """
    units = F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1).to(dtype)
    return ProductAffinity(units, units)


@dataclass(frozen=True)
class Affinities:
    """How strongly the tokens of each image belong together.

    Attributes:
        images: one :class:`Affinity` per image.
    """

    images: tuple[Affinity, ...]


@dataclass(frozen=True)
class CompletedFeatures(Features, Affinities):
    """Features of the tokens, and how strongly these belong together, which more than their own cosines tells."""


Target = Regions | Features | Affinities
