"""Faster forms of the libraries' transformer blocks, equal in result, used without gradients.

What a form computes itself is the inside of one attention; every other part is still the block's own module, called
as such. :func:`fused_form` alone decides where a form runs.

Shape legend
    B, H  images and heads        L  tokens, prefix first        D  width        d  channels per head, in pairs
    P     patches
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from open_clip.transformer import ResidualAttentionBlock
from timm.models.eva import EvaAttention, EvaBlock
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

Form = Callable[[nn.Module, Tensor, Tensor | None, int | None], Tensor]


def residual_block(block: ResidualAttentionBlock, x: Tensor, rope: None = None, count: int | None = None) -> Tensor:
    """The first ``count`` tokens of open_clip's block, B×L×D → B×count×D, without a stored attention map.

    torch's own inference path of ``nn.MultiheadAttention`` stores H maps of L×L.
    """
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    queries, keys, values = rearrange(projected, "b l (three h d) -> three b h l d", three=3, h=attention.num_heads)
    attended = F.scaled_dot_product_attention(queries[:, :, :count], keys, values)
    attended = rearrange(attended, "b h l d -> b l (h d)")
    x = x[:, :count] + block.ls_1(F.linear(attended, attention.out_proj.weight, attention.out_proj.bias))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def eva_block(block: EvaBlock, x: Tensor, rope: Tensor, count: int | None = None) -> Tensor:
    """The first ``count`` tokens of timm's EVA-02 block, B×L×D → B×count×D; queries and keys turn in three operations.

    A pair of channels (a, b) becomes (a cos - b sin, b cos + a sin); the class token is nowhere and keeps its
    direction (RoFormer, arXiv 2104.09864, Eq. 34; in two dimensions as EVA-02, arXiv 2303.11331, has it).

    Args:
        block: the block.
        x: its tokens.
        rope: sines and cosines, P×2d.
        count: how many tokens are wanted.
    """
    attention, normed = block.attn, block.norm1(x)
    sines, cosines = rope.chunk(2, dim=-1)
    signed = sines * sines.new_tensor([-1.0, 1.0]).repeat(sines.shape[-1] // 2)
    prefix = (0, 0, attention.num_prefix_tokens, 0)
    turns = F.pad(cosines, prefix, value=1.0), F.pad(signed, prefix)
    projected = attention.q_proj(normed[:, :count]), attention.k_proj(normed), attention.v_proj(normed)
    queries, keys, values = (rearrange(each, "b l (h d) -> b h l d", h=attention.num_heads) for each in projected)
    attended = F.scaled_dot_product_attention(turn(queries, *turns), turn(keys, *turns), values)
    attended = attention.proj(attention.norm(rearrange(attended, "b h l d -> b l (h d)")))
    x = x[:, :count] + block.drop_path1(attention.proj_drop(attended))
    return x + block.drop_path2(block.mlp(block.norm2(x)))


def turn(x: Tensor, cosines: Tensor, signed_sines: Tensor) -> Tensor:
    """Queries or keys B×H×L×d turned by angles L×d of as many tokens or more; the sines of each pair's first channel
    are negative."""
    length = x.shape[-2]
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cosines[..., :length, :], swapped, signed_sines[..., :length, :]).to(x.dtype)


FORMS: dict[tuple[type, type], Form] = {
    (ResidualAttentionBlock, nn.MultiheadAttention): residual_block,
    (EvaBlock, EvaAttention): eva_block,
}


def fused_form(block: nn.Module) -> Form | None:
    """The faster form of a block, or None where the block itself has to run.

    That is where gradients are wanted, where a forward hook sits on all modules or on one that the form does not call,
    and where such a module is of another class (a wrapped layer, a parametrised attention) or drops out. Of EVA's
    blocks only those of EVA-02's smaller CLIPs have one: three projections, and angles turned in pairs.
    """
    attention = getattr(block, "attn", None)
    form = FORMS.get((type(block), type(attention)))
    if form is None or torch.is_grad_enabled():
        return None
    if form is eva_block and (attention.q_proj is None or getattr(attention, "rotate_half", False)):
        return None
    passed_by = [block, attention]
    if form is residual_block:
        passed_by.append(attention.out_proj)
        if type(attention.out_proj) is not NonDynamicallyQuantizableLinear:
            return None
    of_all_modules = nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks
    hooked = of_all_modules or any(module._forward_hooks or module._forward_pre_hooks for module in passed_by)
    drop = attention.dropout if form is residual_block else attention.attn_drop.p
    return None if hooked or (block.training and drop > 0) else form
