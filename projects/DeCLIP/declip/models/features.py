"""What an encoder says about images."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DenseFeatures:
    """What :meth:`declip.models.encoder.DenseCLIP.encode_dense` returns.

    Shapes: B images of h×w patches, C channels of the shared image-text space, D of the image tower.

    Attributes:
        content: B×C×h×w features in the shared image-text space, not L2-normalised (Eq. 5).
        context: B×(h*w)×D per projection the context type uses, heads concatenated, without class token (Eq. 4);
            empty for ``vanilla``, ``maskclip``, ``catseg`` and contexts from elsewhere.
        hidden: B×D×h×w output of each block asked for, by block index.
    """

    content: Tensor
    context: tuple[Tensor, ...]
    hidden: dict[int, Tensor]
