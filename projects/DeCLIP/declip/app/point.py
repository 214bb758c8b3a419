"""What an encoder makes of one place in an image: where its patch attends, and what it finds alike (DeCLIP, Fig. 2b).

Shape legend
    H, W  image as the encoder sees it        h, w  grid of patches        N  patches, h*w        d  channels per head
"""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from declip.data.mapper import fitted, resize_image, to_tensor
from declip.heatmap import Heatmap
from declip.models.encoder import DenseCLIP


@torch.no_grad()
def maps_at(encoder: DenseCLIP, pixels: np.ndarray, place: tuple[float, float]) -> dict[str, Heatmap]:
    """Maps of one place by what they show: ``attention`` and ``correlation``, the former where the context has one.

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
    patch, native = encoder.patch_size, encoder.image_size // encoder.patch_size
    longer = max(pixels.shape[:2])
    height, width = (max(round(side * native / longer), 1) for side in pixels.shape[:2])
    seen = resize_image(pixels, (height * patch, width * patch))
    batch = to_tensor(seen.transpose(2, 0, 1))[None].to(encoder.pixel_mean.device)
    features = encoder.encode_dense(encoder.normalize(batch))
    anchor = min(int(place[1] * height), height - 1) * width + min(int(place[0] * width), width - 1)
    content = F.normalize(rearrange(features.content.float(), "1 c h w -> (h w) c"), dim=1)
    rows = [_attention(encoder, context[0], anchor) for context in features.context]
    maps = {"attention": sum(rows) / len(rows)} if rows else {}
    maps["correlation"] = content @ content[anchor]
    shown = resize_image(pixels, fitted(pixels.shape[:2], 1024))
    return {name: Heatmap(shown, row.view(height, width).cpu().numpy(), name) for name, row in maps.items()}


def _attention(encoder: DenseCLIP, context: Tensor, anchor: int) -> Tensor:
    """Where one patch attends by a context feature N×D (Eq. 6), the mean over heads: N, summing to 1."""
    heads = rearrange(context.float(), "n (h d) -> h n d", h=encoder.image_tower.num_heads)
    scale = encoder.attention_scale.factor(heads.shape[-1])
    return (scale * heads @ heads[:, anchor, :, None]).softmax(dim=1).mean(dim=0)[:, 0]
