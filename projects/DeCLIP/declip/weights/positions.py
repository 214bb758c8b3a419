"""Positional embeddings for grids that they were not learned on."""

from timm.layers import resample_abs_pos_embed
from torch import Tensor


def resample_positions(positions: Tensor, grid: tuple[int, int], num_prefix_tokens: int) -> Tensor:
    """Positional embeddings for another grid: bicubic without antialiasing, prefix tokens and native size untouched.

    Args:
        positions: (prefix + s*s)×D, learned on a square grid.
        grid: (h, w) wanted.
        num_prefix_tokens: leading rows that belong to no patch.

    Returns:
        (prefix + h*w)×D.

    >>> import torch
    >>> resample_positions(torch.zeros(1 + 4 * 4, 8), (6, 3), num_prefix_tokens=1).shape
    torch.Size([19, 8])
    """
    options = {"new_size": list(grid), "num_prefix_tokens": num_prefix_tokens, "antialias": False}
    return resample_abs_pos_embed(positions[None], **options)[0]
