"""Decoupled self-attention: which tokens belong together (context), and what each of them means (content).

Shape legend
    B  images        L  tokens, class token first where the tower has one        H  heads        d  channels per head

Sources: DeCLIP (CVPR 2025) Eq. 4-6 and Table 7; the baselines of the same form are ClearCLIP (``q``), SCLIP (``qk``)
and MaskCLIP (``maskclip``).
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from declip.contexts import AttentionScale, ContextType

__all__ = ["AttentionScale", "Context", "ContextType", "decoupled_attention"]


def decoupled_attention(
    queries: Tensor, keys: Tensor, values: Tensor, context: ContextType, attention_scale: AttentionScale
) -> Tensor:
    """Content of every token under the chosen context (DeCLIP Eq. 5 and 6, before the output projection).

    Every map is ``softmax(scale * X X^T)`` of the tokens' own features X, by torch's fused kernel: no L×L map is
    stored.

    Args:
        queries, keys, values: B×H×L×d, without rotary embedding.
        context: one of ``q``, ``k``, ``v``, ``qk``, ``all``, ``maskclip`` or ``catseg``.
        attention_scale: see :class:`AttentionScale`.

    Returns:
        B×H×L×d.

    Raises:
        ValueError: for ``vanilla``, which is the tower's own block.

    >>> queries, keys, values = torch.randn(3, 2, 4, 10, 8)
    >>> decoupled_attention(queries, keys, values, ContextType.QK, AttentionScale.SQRT_D).shape
    torch.Size([2, 4, 10, 8])
    """
    scale = attention_scale.factor(values.shape[-1])
    attend = F.scaled_dot_product_attention
    match context:
        case ContextType.Q:
            return attend(queries, queries, values, scale=scale)
        case ContextType.K:
            return attend(keys, keys, values, scale=scale)
        case ContextType.V:
            return attend(values, values, values, scale=scale)
        case ContextType.QK:
            return attend(queries, queries, values, scale=scale) + attend(keys, keys, values, scale=scale)
        case ContextType.ALL:
            # QQ^T + KK^T + VV^T is the self-similarity of the concatenated features: one fused attention
            features = torch.cat([queries, keys, values], dim=-1)
            return attend(features, features, values, scale=scale / 3)
        case ContextType.MASKCLIP | ContextType.CATSEG:
            return values
    raise ValueError(f"context '{context.value}' has no decoupled attention: run the tower's own last block")


class Context(nn.Module, ABC):
    """What the patches of a last block attend by, if not its own projections (:mod:`declip.other_contexts`).

    Attributes:
        value: its name, as in tables and on command lines.
        decoupled: that the block's residual and feed-forward half are dropped.
    """

    value: str
    decoupled = True

    @abstractmethod
    def forward(self, images: Tensor, grid: tuple[int, int], queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Content of every patch, before the block's output projection.

        Args:
            images: B×3×H×W in 0..255.
            grid: (h, w) of the patches.
            queries, keys, values: of the patches in the encoder's last block, B×H×N×d.

        Returns:
            B×H×N×d.
        """
