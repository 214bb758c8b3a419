"""Window attention without masks: a grid cut into regions whose tokens attend to each other.

Shape legend
    h, w  token grid (any size, also non-square)
    N     tokens, h * w
    T     independent sequences (classes)
    H, d  attention heads and channels per head

A window partition cuts each axis into segments; a *region* is a row segment times a column segment. A cyclically
shifted window with the usual mask (Swin, Sec. 3.2) attends within exactly such regions: on a 24-token axis with
window 12 and shift 6 the segments are 6, 12 and 6 tokens long, so the nine regions are one of 144 tokens, four of
72 and four of 36. Regions of equal size form a group, and each group is one plain fused attention.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RegionLayout:
    """A grid's tokens sorted region by region, regions of equal size next to each other.

    Attributes:
        order: raster index of each token, N int64.
        groups: ``(number of regions, tokens per region)`` of each run of equal regions, in the order of ``order``.
    """

    order: Tensor
    groups: tuple[tuple[int, int], ...]

    @property
    def position(self) -> Tensor:
        """Where each raster token stands in ``order`` (the inverse permutation), N int64."""
        return torch.argsort(self.order)


def axis_segments(length: int, window: int, shift: int) -> list[range]:
    """Cut one axis into the segments that a window of ``window`` tokens, shifted by ``shift``, leaves.

    A window at least as long as the axis covers it whole and is not shifted. Where the window does not divide the
    axis the last segment is shorter.

    Raises:
        ValueError: the shift is not in ``[0, window)``.
    """
    if not 0 <= shift < window:
        raise ValueError(f"shift {shift} is not in [0, {window}): a window shifts by less than its own size")
    if window >= length:
        return [range(length)]
    bounds = sorted({0, *range(shift, length, window), length})
    return [range(start, stop) for start, stop in pairwise(bounds)]


@lru_cache(maxsize=64)
def region_layout(grid: tuple[int, int], window: int, shift: int) -> RegionLayout:
    """Lay an h×w grid out region by region, for windows of ``window``² tokens shifted by ``shift`` on both axes."""
    height, width = grid
    raster = torch.arange(height * width).view(height, width)
    if window >= min(grid):
        window, shift = min(grid), 0
    by_size = defaultdict(list)
    for rows in axis_segments(height, window, shift):
        for columns in axis_segments(width, window, shift):
            tokens = raster[rows.start : rows.stop, columns.start : columns.stop].flatten()
            by_size[len(tokens)].append(tokens)
    regions = [tokens for size in sorted(by_size, reverse=True) for tokens in by_size[size]]
    groups = tuple((len(by_size[size]), size) for size in sorted(by_size, reverse=True))
    return RegionLayout(torch.cat(regions), groups)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """``softmax(Q K^T) V`` over the last two axes, fused.

    While training in reduced precision on a CPU the products are plain ones: torch's fused backward pass is 5 to 15
    times slower there, and the maps of a region are small.
    """
    if torch.is_grad_enabled() and queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        return (queries @ keys.transpose(-1, -2)).softmax(dim=-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)


def region_attention(queries_keys_values: Tensor, groups: tuple[tuple[int, int], ...], num_heads: int) -> Tensor:
    """Softmax attention of every token over its own region; the 1/sqrt(d) scale is expected inside the queries.

    Args:
        queries_keys_values: T×N×3C, tokens in region order, channels ``[queries, keys, values]``.
        groups: ``(number of regions, tokens per region)``, see :class:`RegionLayout`.
        num_heads: H, divides C.

    Returns:
        T×N×C attended values, heads concatenated, tokens in the same order.
    """
    num_sequences, _, channels = queries_keys_values.shape
    attended, start = [], 0
    for regions, size in groups:
        group = queries_keys_values[:, start : start + regions * size]
        group = group.unflatten(1, (regions, size)).unflatten(-1, (3, num_heads, -1))  # T, regions, size, 3, H, d
        queries, keys, values = group.movedim(3, 0).flatten(1, 2).transpose(2, 3).unbind(0)  # T*regions, H, size, d
        values = attend(queries, keys, values)
        attended.append(values.transpose(1, 2).reshape(num_sequences, regions * size, channels // 3))
        start += regions * size
    return attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
