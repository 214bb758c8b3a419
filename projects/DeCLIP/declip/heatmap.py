"""How well a text fits each pixel of an image, as a picture.

Shape legend
    H, W  image        h, w  values
"""

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from declip.data.mapper import fitted, resize_image

COLORS = "viridis"  # told apart by colour-blind people, and in grey
OPACITY = 0.7
LONGEST_SIDE = 2048  # of a picture, pixels


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
        """The image under the colours of its values, from the least (dark) to the most (bright).

        The image keeps its own size up to :data:`LONGEST_SIDE`.

        Args:
            opacity: of the colours, in [0, 1].
        """
        size = fitted(self.image.shape[:2], LONGEST_SIDE)
        values = Image.fromarray(self.values.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
        low, high = values.getextrema()
        colors = 255 * matplotlib.colormaps[COLORS]((np.asarray(values) - low) / (high - low or 1))[..., :3]
        painted = (1 - opacity) * resize_image(self.image, size) + opacity * colors
        return Image.fromarray(painted.round().astype(np.uint8))

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.overlay().save(content, format="png")
        return content.getvalue()
