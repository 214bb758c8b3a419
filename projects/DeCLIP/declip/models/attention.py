"""Decoupled self-attention: which tokens belong together (context), and what each of them means (content).

Shape legend
    B  images        L  tokens, class token first where the tower has one        H  heads        d  channels per head

Sources: DeCLIP (CVPR 2025) Eq. 4-6 and Table 7; the baselines of the same form are ClearCLIP (``q``), SCLIP (``qk``)
and MaskCLIP (``maskclip``).
"""

from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor


class ContextType(str, Enum):
    """What the last block attends by (DeCLIP, Table 7)."""

    Q = "q"  # query-query
    K = "k"  # key-key
    V = "v"  # value-value
    QK = "qk"  # query-query plus key-key, two attention maps summed ("Q + K", "csa")
    ALL = "all"  # one map of the averaged query, key and value similarities
    VANILLA = "vanilla"  # the block as CLIP has it
    MASKCLIP = "maskclip"  # no attention: each token keeps its own value
    CATSEG = "catseg"  # as maskclip, but every token's residual is the class token: what public CAT-Seg computes

    @property
    def projections(self) -> tuple[int, ...]:
        """Which of (query, key, value) are context features, by position."""
        return {"q": (0,), "k": (1,), "v": (2,), "qk": (0, 1), "all": (0, 1, 2)}.get(self.value, ())

    @property
    def decoupled(self) -> bool:
        """Whether the block's residual and feed-forward half are dropped (DeCLIP Eq. 5)."""
        return bool(self.projections)


class AttentionScale(str, Enum):
    """The factor on the similarities before the softmax."""

    SQRT_D = "sqrt_d"  # 1/sqrt(d), DeCLIP Eq. 6
    NONE = "none"  # 1, as the authors' released weights were trained

    def factor(self, head_dim: int) -> float:
        """The factor for ``head_dim`` channels per head."""
        return head_dim**-0.5 if self is AttentionScale.SQRT_D else 1.0


def self_self_attention(features: Tensor, values: Tensor, scale: float) -> Tensor:
    """``softmax(scale * F F^T) V`` with torch's fused kernel: the B×H×L×L map is never stored.

    Args:
        features: B×H×L×c, attend by their own similarity.
        values: B×H×L×d.
        scale: factor on the similarities.

    Returns:
        B×H×L×d.
    """
    return F.scaled_dot_product_attention(features, features, values, scale=scale)


def decoupled_attention(
    queries: Tensor, keys: Tensor, values: Tensor, context: ContextType, attention_scale: AttentionScale
) -> Tensor:
    """Content of every token under the chosen context (DeCLIP Eq. 5 and 6, before the output projection).

    Args:
        queries, keys, values: B×H×L×d, without rotary embedding.
        context: one of ``q``, ``k``, ``v``, ``qk``, ``all``, ``maskclip`` or ``catseg``.
        attention_scale: see :class:`AttentionScale`.

    Returns:
        B×H×L×d.

    Raises:
        ValueError: for ``vanilla``, which is the tower's own block.
    """
    scale = attention_scale.factor(values.shape[-1])
    match context:
        case ContextType.Q:
            return self_self_attention(queries, values, scale)
        case ContextType.K:
            return self_self_attention(keys, values, scale)
        case ContextType.V:
            return self_self_attention(values, values, scale)
        case ContextType.QK:
            return self_self_attention(queries, values, scale) + self_self_attention(keys, values, scale)
        case ContextType.ALL:
            # QQ^T + KK^T + VV^T is the self-similarity of the concatenated features: one fused attention
            return self_self_attention(torch.cat([queries, keys, values], dim=-1), values, scale / 3)
        case ContextType.MASKCLIP | ContextType.CATSEG:
            return values
    raise ValueError(f"context '{context.value}' has no decoupled attention: run the tower's own last block")
