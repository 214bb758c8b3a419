"""How well a text fits each pixel of an image, as a picture.

Shape legend
    H, W  image        h, w  values
"""

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from declip.data.mapper import resize_image

COLORS = "viridis"  # told apart by colour-blind people, and in grey
OPACITY = 0.7


@dataclass(frozen=True)
class Heatmap:
    """Values of an image's pixels; a notebook shows it as a picture.

    Attributes:
        image: H×W×3 uint8 RGB.
        values: h×w float32, of the whole image: at the image's size, or smaller where that is large.
        text: what they are the values of.
    """

    image: np.ndarray
    values: np.ndarray
    text: str

    def overlay(self, opacity: float = OPACITY) -> Image.Image:
        """The image at the size of the values, under their colours from the least (dark) to the most (bright).

        Args:
            opacity: of the colours, in [0, 1].
        """
        low, high = float(self.values.min()), float(self.values.max())
        scaled = (self.values - low) / (high - low or 1)
        colors = 255 * matplotlib.colormaps[COLORS](scaled)[..., :3]
        image = resize_image(self.image, self.values.shape)
        return Image.fromarray(((1 - opacity) * image + opacity * colors).round().astype(np.uint8))

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.overlay().save(content, format="png")
        return content.getvalue()
