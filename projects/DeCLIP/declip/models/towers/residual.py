"""open_clip's own transformer block, run step by step (its image towers and all its text towers use it).

Shape legend
    B  sequences        L  tokens        D  width        H, d  heads and channels per head
"""

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor


def project_qkv(block: ResidualAttentionBlock, x: Tensor, freeze_keys: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each B×L×D, of tokens B×L×D (the block's first norm included).

    One tensor holds the three projections. ``freeze_keys`` stops gradients at its key rows, so that training
    "queries and values" means just that.
    """
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    if freeze_keys:
        (query, key, value), (query_bias, key_bias, value_bias) = weight.chunk(3), bias.chunk(3)
        weight = torch.cat([query, key.detach(), value])
        bias = torch.cat([query_bias, key_bias.detach(), value_bias])
    return F.linear(block.ln_1(x), weight, bias).chunk(3, dim=-1)


def feed_forward(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The block's second half with its residual."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def run_residual_block(
    block: ResidualAttentionBlock, x: Tensor, causal: bool, freeze_keys: bool, count: int | None = None
) -> Tensor:
    """The whole block with fused attention, B×L×D → B×L×D, or the first ``count`` tokens of it."""
    heads = (block.attn.num_heads, -1)
    queries, keys, values = (
        tensor.unflatten(-1, heads).transpose(1, 2) for tensor in project_qkv(block, x, freeze_keys)
    )
    attended = F.scaled_dot_product_attention(queries[:, :, :count], keys, values, is_causal=causal)
    x = x[:, :count] + block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    return feed_forward(block, x)
