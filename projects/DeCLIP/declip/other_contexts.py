"""Contexts from elsewhere: what a decoupled last block attends by, if not by its own queries, keys or values alone.

Shape legend
    B     images                                N  patches, h*w, in raster order       b  rows at a time
    h, w  grid of patches                       H  heads        d  channels per head
    E     channels of a foundation model

Sources: ProxyCLIP (ECCV 2024, arXiv 2408.04883), Eq. 3-5; NACLIP (WACV 2025, arXiv 2404.08181), Sec. 3.3. Both drop the
block's residual and feed-forward half, as DeCLIP Eq. 5 does.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from d2host.engine.errors import ConfigError
from declip.models.attention import Context, ContextType
from declip.teachers.foundation import PRETRAINED, FoundationTeacher

ROWS = 1024  # of an N×N map that exist at a time
PROXY, NEIGHBOURS = "proxy:", "neighbours"


class ProxyContext(Context):
    """Patches attend by what a vision foundation model finds alike (ProxyCLIP).

    The model sees the images at the size that gives it the encoder's grid. Cosines are shifted by their mean, scaled,
    and cut at zero; all heads share the map.

    Args:
        name: of a :class:`FoundationTeacher`.
        weights: of it.
        shift: beta, how many means are subtracted from the cosines.
        scale: gamma, the factor on what is left.

    >>> context = ProxyContext("nano-vfm")
    >>> queries, keys, values = torch.randn(3, 1, 2, 4 * 6, 8)
    >>> context(255 * torch.rand(1, 3, 32, 48), (4, 6), queries, keys, values).shape
    torch.Size([1, 2, 24, 8])
    """

    def __init__(self, name: str, weights: str = PRETRAINED, shift: float = 1.2, scale: float = 3.0) -> None:
        super().__init__()
        self.value, self.shift, self.scale = PROXY + name, shift, scale
        self.model = FoundationTeacher(name, weights)

    def forward(self, images: Tensor, grid: tuple[int, int], queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See :class:`Context`."""
        size = [side * self.model.patch_size for side in grid]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        features = F.normalize(self.model(self.model.normalize(images)).flatten(2), dim=1)  # B×E×N
        mean = features.mean(dim=2).square().sum(dim=1)[:, None, None]  # of all cosines of an image
        content = []
        for some in features.split(ROWS, dim=2):
            alike = self.scale * (some.mT @ features - self.shift * mean)  # B×b×N
            closest = alike.amax(dim=-1, keepdim=True)  # itself: it stays, however uniform the image
            attention = alike.masked_fill(alike < closest.clamp(max=0), float("-inf")).softmax(dim=-1)
            content.append(attention[:, None].to(values.dtype) @ values)
        return torch.cat(content, dim=2)


class NeighbourContext(Context):
    """Patches attend by their keys, and more to those around them (NACLIP).

    Args:
        deviation: of the Gaussian that is added to the similarities, patches.

    >>> queries, keys, values = torch.randn(3, 1, 2, 4 * 6, 8)
    >>> NeighbourContext()(torch.zeros(1, 3, 32, 48), (4, 6), queries, keys, values).shape
    torch.Size([1, 2, 24, 8])
    """

    value = NEIGHBOURS

    def __init__(self, deviation: float = 5.0) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, images: Tensor, grid: tuple[int, int], queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See :class:`Context`."""
        places = [torch.arange(side, dtype=torch.float32, device=keys.device) for side in grid]
        near = [(-(each[:, None] - each).square() / (2 * self.deviation**2)).exp() for each in places]
        content = []
        for first in range(0, keys.shape[2], ROWS):
            patches = torch.arange(first, min(first + ROWS, keys.shape[2]), device=keys.device)
            rows, columns = patches // grid[1], patches % grid[1]
            prior = (near[0][rows, :, None] * near[1][columns, None, :]).flatten(1)  # b×N
            some = keys[:, :, first : first + ROWS]
            content.append(F.scaled_dot_product_attention(some, keys, values, attn_mask=prior.to(keys.dtype)))
        return torch.cat(content, dim=2)


def parse_contexts(
    names: Sequence[str], proxy_weights: str | None = None, device: torch.device | str = "cpu"
) -> list[ContextType | Context]:
    """Contexts by their names, on a device: a :class:`ContextType`, ``proxy:<foundation model>`` or ``neighbours``.

    Args:
        names: of the contexts.
        proxy_weights: of the foundation models; None: those that they are published with.
        device: where the foundation models compute.

    Raises:
        ConfigError: a name is unknown, a foundation model cannot be had, or there are weights but no proxy.

    >>> [context.value for context in parse_contexts(["qk", "neighbours"])]
    ['qk', 'neighbours']
    """
    kinds = {kind.value: kind for kind in ContextType}
    if proxy_weights is not None and not any(name.startswith(PROXY) for name in names):
        raise ConfigError(f"weights of proxies are given ({proxy_weights}), but no context is a proxy: leave them out")
    contexts = []
    for name in names:
        if name.startswith(PROXY) and name != PROXY:
            contexts.append(ProxyContext(name.removeprefix(PROXY), proxy_weights or PRETRAINED).to(device))
        elif name == NEIGHBOURS:
            contexts.append(NeighbourContext())
        elif name in kinds:
            contexts.append(kinds[name])
        else:
            raise ConfigError(
                f"context '{name}' is unknown: choose among {', '.join(kinds)}, {NEIGHBOURS}, and {PROXY} with the "
                "name of a foundation model (proxy:dinov2_vitb14)"
            )
    return contexts
