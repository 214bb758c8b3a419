"""A deeper CLIP from a trained one: every block begins as two that together do nearly what the one did.

Source: Net2Net (ICLR 2016), whose deeper net computes the same function; here each half of a feed-forward layer keeps
its own hidden units, and the second block's attention begins with nothing to say.
"""

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from declip.models.encoder import DenseCLIP


@torch.no_grad()
def grow(deep: DenseCLIP, shallow: DenseCLIP) -> None:
    """Give an encoder the weights of one with half the blocks, whose feed-forward layers are twice as wide.

    Block k becomes blocks 2k and 2k + 1. The first takes the attention and one half of the feed-forward layer, the
    second the other half, behind an attention of random queries, keys and values whose output is 0.

    Args:
        deep: changed in place; everything but its blocks has the shapes of ``shallow``'s.
        shallow: open_clip's ViT, as ``deep``.
    """
    blocks, new_blocks = (clip.visual.transformer.resblocks for clip in (shallow.clip, deep.clip))
    assert len(new_blocks) == 2 * len(blocks), "an encoder grows to twice its blocks"
    rest = {key: value for key, value in shallow.clip.state_dict().items() if "visual.transformer." not in key}
    deep.clip.load_state_dict(rest, strict=False)
    for index, block in enumerate(blocks):
        first, second = new_blocks[2 * index : 2 * index + 2]
        first.ln_1.load_state_dict(block.ln_1.state_dict())
        first.attn.load_state_dict(block.attn.state_dict())
        second.ln_1.load_state_dict(block.ln_1.state_dict())
        nn.init.zeros_(second.attn.out_proj.weight)
        nn.init.zeros_(second.attn.out_proj.bias)
        _split_feed_forward(block, first, second)


def _split_feed_forward(
    whole: ResidualAttentionBlock, first: ResidualAttentionBlock, second: ResidualAttentionBlock
) -> None:
    """Every second hidden unit to either half, and half of the output's bias."""
    for half, block in enumerate((first, second)):
        block.ln_2.load_state_dict(whole.ln_2.state_dict())
        block.mlp.c_fc.weight.copy_(whole.mlp.c_fc.weight[half::2])
        block.mlp.c_fc.bias.copy_(whole.mlp.c_fc.bias[half::2])
        block.mlp.c_proj.weight.copy_(whole.mlp.c_proj.weight[:, half::2])
        block.mlp.c_proj.bias.copy_(whole.mlp.c_proj.bias / 2)
