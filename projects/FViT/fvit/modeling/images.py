"""Images as a detector sees them: one square for all."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from d2host.engine.errors import DataError


class SquareImages(nn.Module):
    """Images of any sizes, normalised and then padded with zeros, right and below, to a square.

    Args:
        pixel_mean, pixel_std: images are normalised with, RGB in 0..255; not always the encoder's own.
        side: of the square; images are no larger.

    >>> square = SquareImages(pixel_mean=(127.0,) * 3, pixel_std=(60.0,) * 3, side=64)
    >>> images = square([torch.zeros(3, 64, 48), torch.zeros(3, 40, 64)])
    >>> images.tensors.shape, images.image_sizes
    (torch.Size([2, 3, 64, 64]), [(64, 48), (40, 64)])
    """

    def __init__(self, pixel_mean: Sequence[float], pixel_std: Sequence[float], side: int) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)
        self.side = side

    def forward(self, images: Sequence[Tensor]) -> ImageList:
        """3×H×W images, in 0..255 → B×3×side×side, and their sizes (H, W).

        Raises:
            DataError: an image is larger than the square.
        """
        sizes = [tuple(image.shape[-2:]) for image in images]
        if max(map(max, sizes)) > self.side:
            raise DataError(
                f"an image of {max(sizes, key=max)} pixels is larger than the square of {self.side} (INPUT.IMAGE_SIZE):"
                " resize it first"
            )
        normal = [(image.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std for image in images]
        padded = [F.pad(each, (0, self.side - each.shape[2], 0, self.side - each.shape[1])) for each in normal]
        return ImageList(torch.stack(padded), sizes)
