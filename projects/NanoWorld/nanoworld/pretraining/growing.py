"""A deeper CLIP from a trained one: every block begins as two that each go half the way.

Source: Net2Net (ICLR 2016) and bert2BERT (ACL 2022), whose larger nets begin with what the smaller ones knew. Here a
block is divided like a step of a differential equation: x + f(x) becomes two steps of f / 2.
"""

import torch

from declip.models.encoder import DenseCLIP


@torch.no_grad()
def grow(deep: DenseCLIP, shallow: DenseCLIP) -> None:
    """Give an encoder the weights of one with half the blocks, whose feed-forward layers are twice as wide.

    Block k becomes blocks 2k and 2k + 1. Both have its attention, with half the output, and half of the hidden units of
    its feed-forward layer, with half of the output's bias.

    Args:
        deep: changed in place; everything but its blocks has the shapes of ``shallow``'s.
        shallow: open_clip's ViT, as ``deep``.
    """
    blocks, new_blocks = (encoder.clip.visual.transformer.resblocks for encoder in (shallow, deep))
    assert len(new_blocks) == 2 * len(blocks), "an encoder grows to twice its blocks"
    rest = {key: value for key, value in shallow.clip.state_dict().items() if "visual.transformer." not in key}
    deep.clip.load_state_dict(rest, strict=False)
    for index, new in enumerate(new_blocks):
        state = blocks[index // 2].state_dict()
        units = slice(index % 2, None, 2)  # every second one
        state["mlp.c_fc.weight"] = state["mlp.c_fc.weight"][units]
        state["mlp.c_fc.bias"] = state["mlp.c_fc.bias"][units]
        state["mlp.c_proj.weight"] = state["mlp.c_proj.weight"][:, units]
        for key in ("attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_proj.bias"):
            state[key] = state[key] / 2
        new.load_state_dict(state)
