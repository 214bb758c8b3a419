"""Which parameters of an encoder train.

Source: CAT-Seg (CVPR 2024), Sec. 3.4: only the query and value projections of both towers' attention and the
positional embeddings are fine-tuned.

Where a tower keeps queries, keys and values in one tensor, that tensor trains, and a hook on its gradient sets the key
rows to zero. Exempting the tensor from weight decay (see :func:`no_weight_decay`) keeps the key rows bit for bit where
they are.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from declip.models.encoder import DenseCLIP


class FinetunePolicy(str, Enum):
    """How much of the encoder trains."""

    FROZEN = "frozen"
    ATTENTION = "attention"  # queries, values and positions of both towers
    FULL = "full"


SHARED_PROJECTIONS = ("attn.in_proj_weight", "attn.in_proj_bias", "attn.qkv.weight", "attn.qkv.bias")
QUERY_AND_VALUE = ("attn.q_proj.", "attn.v_proj.", "attn.q_bias", "attn.v_bias")
QUERY_AND_VALUE += ("attention.self.query.", "attention.self.value.", "SelfAttention.q.", "SelfAttention.v.")
POSITIONS = ("positional_embedding", "pos_embed", "position_embeddings.weight")


def apply_finetuning(encoder: DenseCLIP, policy: FinetunePolicy) -> None:
    """Set ``requires_grad`` of every encoder parameter, and keep gradients from the keys, as the policy says.

    What an earlier call set is undone. Copies of an encoder keep no gradient hooks: choose for them again.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip")
    >>> apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    >>> sorted(no_weight_decay(encoder))[-1]
    'clip.visual.transformer.resblocks.5.attn.in_proj_weight'
    """
    for handle in encoder.key_hooks:
        handle.remove()
    partly = policy is FinetunePolicy.ATTENTION
    hooks = []
    for name, parameter in encoder.clip.named_parameters():
        parameter.requires_grad_(policy is FinetunePolicy.FULL or (partly and _is_query_value_or_position(name)))
        if partly and name.endswith(SHARED_PROJECTIONS):
            hooks.append(parameter.register_hook(without_key_rows))
    encoder.key_hooks = tuple(hooks)


def without_key_rows(gradient: Tensor) -> Tensor:
    """The gradient of a projection that queries, keys and values share, its middle third zero."""
    third = len(gradient) // 3
    masked = gradient.clone()
    masked[third : 2 * third] = 0
    return masked


def no_weight_decay(encoder: DenseCLIP) -> set[str]:
    """Names (as in ``encoder.named_parameters()``) of tensors that train only in part and so must not decay."""
    if not encoder.key_hooks:
        return set()
    return {name for name, _ in encoder.named_parameters() if name.endswith(SHARED_PROJECTIONS)}


def _is_query_value_or_position(name: str) -> bool:
    return (
        name.endswith(SHARED_PROJECTIONS) or any(part in name for part in QUERY_AND_VALUE) or name.endswith(POSITIONS)
    )
