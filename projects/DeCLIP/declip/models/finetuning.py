"""Which parameters of an encoder train.

Source: CAT-Seg (CVPR 2024), Sec. 3.4: only the query and value projections of both towers' attention and the
positional embeddings are fine-tuned.

Where a tower keeps queries, keys and values in one tensor, that tensor trains while gradients stop at its key rows
(``freeze_keys`` of the tower). Their gradient is exactly zero, and exempting the tensor from weight decay (see
:func:`no_weight_decay`) keeps the key rows bit for bit where they are.
"""

from enum import Enum

from declip.models.encoder import DenseCLIP


class FinetunePolicy(str, Enum):
    """How much of the encoder trains."""

    FROZEN = "frozen"
    ATTENTION = "attention"  # queries, values and positions of both towers
    FULL = "full"


SHARED_PROJECTIONS = ("attn.in_proj_weight", "attn.in_proj_bias", "attn.qkv.weight", "attn.qkv.bias")
QUERY_AND_VALUE = ("attn.q_proj.", "attn.v_proj.")
POSITIONS = ("positional_embedding", "pos_embed")


def apply_finetuning(encoder: DenseCLIP, policy: FinetunePolicy) -> None:
    """Set ``requires_grad`` of every encoder parameter, and stop gradients at the keys, as the policy says."""
    partly = policy is FinetunePolicy.ATTENTION
    for name, parameter in encoder.clip.named_parameters():
        parameter.requires_grad_(policy is FinetunePolicy.FULL or (partly and _is_query_value_or_position(name)))
    encoder.image_tower.freeze_keys = encoder.text_tower.freeze_keys = partly


def no_weight_decay(encoder: DenseCLIP) -> set[str]:
    """Names (as in ``encoder.named_parameters()``) of tensors that train only in part and so must not decay."""
    if not encoder.image_tower.freeze_keys:
        return set()
    return {name for name, _ in encoder.named_parameters() if name.endswith(SHARED_PROJECTIONS)}


def _is_query_value_or_position(name: str) -> bool:
    return (
        name.endswith(SHARED_PROJECTIONS) or any(part in name for part in QUERY_AND_VALUE) or name.endswith(POSITIONS)
    )
