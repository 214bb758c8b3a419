"""Self-attention maps of a denoising UNet: read from wanted layers, brought to a coarser grid, and fused.

Shape legend
    a     heads                               H, W  grid of a layer: r times as many rows and columns
    h, w  grid of the student, N = h * w      d     channels of a head

Other layers keep their fused kernels, and of a wanted one no more than the rows of one row of tokens exist at a time.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from einops import reduce
from torch import Tensor, nn

from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention


class Fusion(str, Enum):
    """How the maps of several heads and layers become one."""

    CHAIN = "chain"  # their product, in the order of the layers
    MEAN = "mean"


class RecordingProcessor:
    """A processor of one self-attention layer that notes its map and leaves the output to the layer's own.

    Args:
        own: the layer's processor.
        grid: (h, w) to bring the map to.
        note: called with the map, a×N×N, rows that sum to 1.
        name: of the layer, for messages.
    """

    def __init__(self, own: Callable, grid: tuple[int, int], note: Callable[[Tensor], None], name: str) -> None:
        self.own, self.grid, self.note, self.name = own, grid, note, name

    def __call__(
        self,
        attn: "Attention",
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """The layer's output, as ever."""
        tokens = hidden_states.flatten(2).mT if hidden_states.dim() == 4 else hidden_states
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.mT).mT
        query, key = (attn.head_to_batch_dim(project(tokens)).float() for project in (attn.to_q, attn.to_k))
        size = enlarged(self.grid, tokens.shape[1], self.name)
        self.note(pooled_attention(query, key, attn.scale, size, self.grid))
        return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)


def enlarged(grid: tuple[int, int], tokens: int, layer: str) -> tuple[int, int]:
    """The grid of a layer with so many tokens: ``grid``, each side times the same whole number.

    Raises:
        ConfigError: it is no such grid.
    """
    times = math.isqrt(tokens // (grid[0] * grid[1]))
    if not times or times**2 * grid[0] * grid[1] != tokens:
        raise ConfigError(
            f"layer {layer} of the diffusion model has {tokens} tokens, which cannot be brought to the student's "
            f"{grid[0]}×{grid[1]}: choose layers of a finer level (MODEL.DIFFUSION.LAYERS), or more latent cells per "
            "token (MODEL.DIFFUSION.CELLS)"
        )
    return grid[0] * times, grid[1] * times


def pooled_attention(query: Tensor, key: Tensor, scale: float, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Attention between the tokens of a coarser grid: means over the queries of a token, sums over its keys.

    Args:
        query, key: a×(H*W)×d, float32.
        scale: of their products.
        size: (H, W), each side the same multiple of that of ``grid``.

    Returns:
        a×N×N, rows sum to 1.

    >>> query, key = torch.randn(2, 3, 4 * 6, 8)
    >>> pooled_attention(query, key, 8**-0.5, (4, 6), (2, 3)).sum(dim=2).allclose(torch.ones(3, 6))
    True
    """
    times, h = size[0] // grid[0], grid[0]
    rows = []
    for band in query.split(times * size[1], dim=1):  # the queries of a row of tokens
        weights = torch.softmax(band @ key.mT * scale, dim=2)
        sums = reduce(weights, "a q (h r w s) -> a q h w", "sum", h=h, r=times, s=times) if times > 1 else weights
        rows.append(reduce(sums.flatten(2), "a (r w s) n -> a w n", "mean", r=times, s=times))
    return torch.cat(rows, dim=1)


def sharpened(attention: Tensor, threshold: float) -> Tensor:
    """What is strong for its column, as rows that sum to 1.

    Each column is divided by its maximum, entries below ``threshold`` are dropped, and rows are normalized; a row with
    nothing left keeps its own token alone.

    >>> sharpened(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), 0.3)
    tensor([[1.0000, 0.0000],
            [0.3571, 0.6429]])

    Args:
        attention: …×N×N, rows of weights.
        threshold: in [0, 1).

    Source: CLIPer (ICCV 2025), public code.
    """
    relative = attention / attention.amax(dim=-2, keepdim=True).clamp_min(1e-12)
    kept = relative * (relative >= threshold)
    empty = kept.sum(dim=-1, keepdim=True) == 0
    kept = torch.where(empty, torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device), kept)
    return kept / kept.sum(dim=-1, keepdim=True)


def fuse(maps: Sequence[Tensor], threshold: float, fusion: Fusion = Fusion.CHAIN) -> Tensor:
    """One N×N map, rows that sum to 1, of several.

    The maps have been brought to the student's grid before, which is not the same as bringing the product there.

    Args:
        maps: of layers, each a×N×N.
        threshold: see :func:`sharpened`.
    """
    heads = [head for attention in maps for head in sharpened(attention, threshold)]
    if fusion is Fusion.MEAN:
        return torch.stack(heads).mean(dim=0)
    fused = heads[0]
    for head in heads[1:]:
        fused = fused @ head
    return fused


@contextmanager
def recording(layers: Mapping[str, "Attention"], grid: tuple[int, int]) -> Iterator[dict[str, Tensor]]:
    """Note the maps of layers during the block, in which the model runs once for one image.

    Args:
        layers: by name.
        grid: (h, w) of the student.

    Yields:
        Name → a×N×N, filled as the layers run, and in the order of ``layers``.
    """
    maps: dict[str, Tensor] = {}
    own = {name: layer.processor for name, layer in layers.items()}
    for name, layer in layers.items():
        note = lambda attention, name=name: maps.update({name: attention})  # noqa: E731
        layer.set_processor(RecordingProcessor(own[name], grid, note, name))
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer.set_processor(own[name])


def self_attentions(unet: nn.Module) -> dict[str, "Attention"]:
    """The self-attention layers of a UNet of `diffusers`, by name, in the order in which they stand.

    In blocks of transformers these are called ``attn1``; other attentions of the library are themselves ones.
    """
    from diffusers.models.attention_processor import Attention

    found = {name: module for name, module in unet.named_modules() if isinstance(module, Attention)}
    return {name: module for name, module in found.items() if not module.is_cross_attention}
