"""Window attention without masks: a grid cut into windows whose tokens attend to each other.

Shape legend
    h, w  token grid (any size, also non-square)
    N     tokens, h * w
    S     independent sequences (the classes of images), over one axis or more
    C     channels        H, d  attention heads and channels per head

Cyclically shifted windows with the usual mask (Swin, Sec. 3.2) attend within smaller windows: on an axis of 24 tokens
with window 12 and shift 6 these are 6, 12 and 6 tokens long, so that there are one of 144 tokens, four of 72 and four
of 36. Windows of equal size form a group, and each group is one plain fused attention.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True)
class WindowLayout:
    """A grid's tokens sorted window by window, windows of equal size next to each other.

    Attributes:
        order: raster index of each token, N int64.
        groups: ``(number of windows, tokens per window)`` of each run of equal windows, in the order of ``order``.
    """

    order: Tensor
    groups: tuple[tuple[int, int], ...]

    @property
    def position(self) -> Tensor:
        """Where each raster token stands in ``order`` (the inverse permutation), N int64."""
        return torch.argsort(self.order)


def axis_segments(length: int, window: int, shift: int) -> list[range]:
    """One axis cut into the segments that a window of ``window`` tokens, shifted by ``shift``, leaves.

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
def window_layout(grid: tuple[int, int], window: int, shift: int) -> WindowLayout:
    """An h×w grid laid out window by window, for windows of ``window``² tokens shifted by ``shift`` on both axes.

    >>> window_layout((24, 24), window=12, shift=6).groups
    ((1, 144), (4, 72), (4, 36))
    """
    height, width = grid
    raster = torch.arange(height * width).view(height, width)
    if window >= min(grid):
        window, shift = min(grid), 0
    by_size = defaultdict(list)
    for rows in axis_segments(height, window, shift):
        for columns in axis_segments(width, window, shift):
            tokens = raster[rows.start : rows.stop, columns.start : columns.stop].flatten()
            by_size[len(tokens)].append(tokens)
    sizes = sorted(by_size, reverse=True)
    windows = [tokens for size in sizes for tokens in by_size[size]]
    return WindowLayout(torch.cat(windows), tuple((len(by_size[size]), size) for size in sizes))


def window_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    groups: tuple[tuple[int, int], ...],
    num_heads: int,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention of every token over its own window.

    Args:
        queries, keys, values: S×N×C, tokens in window order.
        groups: ``(number of windows, tokens per window)``, see :class:`WindowLayout`.
        num_heads: H, divides C.
        scale: factor on the similarities; None: 1/sqrt(d).

    Returns:
        S×N×C attended values, heads concatenated, tokens in the same order.
    """
    sequences, lengths = queries.shape[:-2], [windows * size for windows, size in groups]
    pieces = zip(*(each.flatten(0, -3).split(lengths, dim=1) for each in (queries, keys, values)), strict=True)
    attended = []
    for (windows, _), group in zip(groups, pieces, strict=True):
        heads = (rearrange(each, "s (r n) (h d) -> (s r) h n d", r=windows, h=num_heads) for each in group)
        attended.append(rearrange(attend(*heads, scale), "(s r) h n d -> s (r n) (h d)", r=windows))
    joined = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return joined.unflatten(0, sequences)


def attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float | None = None) -> Tensor:
    """``softmax(scale * Q K^T) V`` over the last two axes, fused.

    While training in reduced precision on a CPU the products are plain ones: torch's fused backward pass is 5 to 15
    times slower there, and the maps of a window are small.
    """
    if torch.is_grad_enabled() and queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        scale = queries.shape[-1] ** -0.5 if scale is None else scale
        return ((queries * scale) @ keys.transpose(-1, -2)).softmax(dim=-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values, scale=scale)
