"""What teachers tell a student about images.

Shape legend
    B     images of one grid          C  width of the shared image-text space
    h, w  their grid, N = h * w       E  channels of the teacher
    K     crops of all the images     b  rows asked for at a time
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class CropEmbeddings:
    """Embeddings of parts of the images, each seen as an image of its own.

    Attributes:
        boxes: per image K_i×4 (x0, y0, x1, y1), what its crops show, in pixels of the student's view.
        embeddings: K×C, in the order of ``boxes``.
    """

    boxes: tuple[Tensor, ...]
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
class Affinities:
    """How strongly the tokens of each image belong together.

    Attributes:
        images: one :class:`Affinity` per image.
    """

    images: tuple[Affinity, ...]


Target = CropEmbeddings | Features | Affinities
