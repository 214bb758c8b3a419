"""An image as a model sees it, and the places in it that are asked about.

Shape legend
    H, W  image as the model sees it        h, w  grid of patches        A  anchors
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d2host.engine.errors import ConfigError, DataError
from declip.data.mapper import resize_image, to_tensor
from declip.models.encoder import DenseCLIP
from declip.segmentation import ImageLike, as_rgb
from declip.visualization.reader import Model

MOST_PATCHES = 128  # along the longer side


@dataclass(frozen=True)
class ModelInput:
    """An image as a model sees it.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip")
    >>> seen = ModelInput.of(encoder, np.zeros((480, 640, 3), np.uint8), anchors=[(320, 100)])
    >>> seen.grid, seen.anchors, seen.pixels.shape
    ((12, 16), (40,), torch.Size([1, 3, 96, 128]))

    Attributes:
        image: H×W×3 uint8.
        pixels: 1×3×H×W, normalised for the model, on its device.
        grid: (h, w).
        anchors: A indices of patches, in raster order.
    """

    image: np.ndarray
    pixels: Tensor
    grid: tuple[int, int]
    anchors: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, model: Model, image: ImageLike, anchors: Sequence[tuple[float, float]] = (), patches: int | None = None
    ) -> "ModelInput":
        """From an image of any kind and size; its shape is kept to the nearest patch.

        Args:
            model: an encoder or a teacher.
            image: see :func:`declip.segmentation.as_rgb`.
            anchors: places (x, y) in pixels of the upright image.
            patches: along the longer side; None: as many as the model was made for.

        Raises:
            DataError: it is no image, or an anchor lies outside of it.
            ConfigError: there cannot be as many patches.
        """
        original = as_rgb(image)
        height, width = original.shape[:2]
        longest = native_patches(model) if patches is None else patches
        if not 1 <= longest <= MOST_PATCHES:
            raise ConfigError(f"{longest} patches along the longer side cannot be: choose 1 to {MOST_PATCHES}")
        grid = tuple(max(round(side * longest / max(height, width)), 1) for side in (height, width))
        for x, y in anchors:
            if not (0 <= x < width and 0 <= y < height):
                raise DataError(
                    f"anchor {x:g},{y:g} lies outside of the image of {width}x{height} pixels: give x from 0 to "
                    f"{width - 1} and y from 0 to {height - 1}"
                )
        tokens = [int(y * grid[0] / height) * grid[1] + int(x * grid[1] / width) for x, y in anchors]
        seen = resize_image(original, tuple(side * model.patch_size for side in grid))
        pixels = to_tensor(seen.transpose(2, 0, 1))[None].to(model.pixel_mean.device, torch.float32)
        return cls(seen, model.normalize(pixels), grid, tuple(tokens))

    @property
    def num_patches(self) -> int:
        """h*w."""
        return self.grid[0] * self.grid[1]

    def centre(self, anchor: int) -> tuple[float, float]:
        """(x, y) of the middle of an anchor's patch, as shares of width and height."""
        row, column = divmod(anchor, self.grid[1])
        return (column + 0.5) / self.grid[1], (row + 0.5) / self.grid[0]


def native_patches(model: Model) -> int:
    """Patches along a side of the images that a model was made for."""
    side = model.image_size if isinstance(model, DenseCLIP) else max(model.model.patch_embed.img_size)
    return side // model.patch_size


def spread_anchors(image: ImageLike) -> list[tuple[float, float]]:
    """Three places on the diagonal of an image, for where none are asked about.

    >>> spread_anchors(np.zeros((80, 120, 3), np.uint8))
    [(30, 20), (60, 40), (90, 60)]
    """
    height, width = as_rgb(image).shape[:2]
    return [(width * quarter // 4, height * quarter // 4) for quarter in (1, 2, 3)]
