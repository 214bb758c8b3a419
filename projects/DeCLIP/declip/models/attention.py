"""Decoupled self-attention: which tokens belong together (context), and what each of them means (content).

Shape legend
    B  images        L  tokens, class token first where the tower has one        H  heads        d  channels per head

Sources: DeCLIP (CVPR 2025) Eq. 4-6 and Table 7; the baselines of the same form are ClearCLIP (``q``), SCLIP (``qk``)
and MaskCLIP (``maskclip``).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from declip.models.contexts import AttentionScale, ContextType

__all__ = ["AttentionScale", "ContextType", "decoupled_attention"]


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
