"""What an encoder makes of one place: where its patch attends, and what it finds alike (DeCLIP, Fig. 2b)."""

import numpy as np

from declip.data.mapper import fitted, resize_image
from declip.heatmap import Heatmap
from declip.models.encoder import DenseCLIP
from declip.visualization import attention_maps, correlation_maps
from declip.visualization.attention import CONTEXT
from declip.visualization.correlation import CONTENT

LONGEST_SIDE = 1024  # of what is sent to a browser, pixels


def maps_at(encoder: DenseCLIP, pixels: np.ndarray, place: tuple[float, float]) -> dict[str, Heatmap]:
    """Maps of one place, over the patches: ``attention`` and ``correlation``; their texts say what they show.

    Attention is what dense features come from, or, of a context that has none of its own, that of the last block as
    CLIP has it.

    Args:
        encoder: in evaluation mode.
        pixels: H×W×3 uint8 RGB.
        place: (x, y) as shares of width and height, in [0, 1].

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-declip").eval()
    >>> found = maps_at(encoder, np.zeros((64, 96, 3), np.uint8), (0.5, 0))
    >>> {name: heatmap.values.shape for name, heatmap in found.items()}
    {'attention': (11, 16), 'correlation': (11, 16)}
    """
    height, width = pixels.shape[:2]
    anchor = min(place[0] * width, width - 1), min(place[1] * height, height - 1)
    attention = attention_maps(encoder, pixels, [anchor], layers=[-1]).maps
    own = CONTEXT in attention
    last = attention[CONTEXT] if own else next(iter(attention.values()))
    purpose = "for dense features" if own else "as CLIP has it"
    looks = f"where the patch at this place looks in the last block, {purpose}"
    alike = correlation_maps(encoder, pixels, [anchor]).maps[CONTENT]
    shown = resize_image(pixels, fitted((height, width), LONGEST_SIDE))
    return {
        "attention": Heatmap(shown, last[-1], f"Attention: {looks}"),
        "correlation": Heatmap(shown, alike[-1], "Correlation: which patches mean the same as the one at this place"),
    }
