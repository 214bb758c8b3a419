"""timm's SigLIP vision transformer as open_clip uses it: ViT-B-16-SigLIP and its larger sisters.

SigLIP has no class token: a learned query pools all tokens by attention. The dense counterpart of pooling follows
MaskCLIP's reading of CLIP's attention pool (ECCV 2022, Sec. 3.2): a token's own embedding is what the pool returns
when that token is all it sees, so each token passes the pool by itself.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens, resample_positions


class SigLIPTower(ImageTower):
    """A ViT without class token, pooled by attention.

    Args:
        visual: open_clip's wrapper around timm's ``VisionTransformer`` with ``map`` pooling.
    """

    num_prefix_tokens = 0

    def __init__(self, visual: TimmModel) -> None:
        self.visual = visual
        self.trunk = visual.trunk
        self.patch_size = self.trunk.patch_embed.patch_size[0]
        self.image_size = self.trunk.patch_embed.img_size[0]
        self.width = self.trunk.embed_dim
        self.num_heads = self.trunk.blocks[0].attn.num_heads

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.trunk.blocks

    def embed(self, images: Tensor) -> Tokens:
        """See :class:`ImageTower`."""
        patches = self.trunk.patch_embed.proj(images)
        x = self.trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        positions = resample_positions(self.trunk.pos_embed[0], tuple(patches.shape[-2:]), 0)
        return Tokens(self.trunk.norm_pre(x + positions.to(x.dtype)))

    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """See :class:`ImageTower`."""
        block, x = self.blocks[index], tokens.x
        queries, keys, values = (self.split_heads(tensor) for tensor in self._projections(block, x))
        attended = self.merge_heads(F.scaled_dot_product_attention(queries[:, :, :count], keys, values))
        x = x[:, :count] + block.ls1(block.attn.proj(attended))
        return Tokens(x + block.ls2(block.mlp(block.norm2(x))))

    def _projections(self, block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
        if self.freeze_keys:
            (query, key, value), (query_bias, key_bias, value_bias) = weight.chunk(3), bias.chunk(3)
            weight = torch.cat([query, key.detach(), value])
            bias = torch.cat([query_bias, key_bias.detach(), value_bias])
        return F.linear(block.norm1(x), weight, bias).chunk(3, dim=-1)

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        return self._projections(self.blocks[-1], x)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.blocks[-1].attn.proj(attended)

    def last_feed_forward(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        return x + block.ls2(block.mlp(block.norm2(x)))

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`: every token passes the attention pool alone."""
        alone = self.trunk.norm(x).flatten(0, 1).unsqueeze(1)
        return self._head(self.trunk.attn_pool(alone)).unflatten(0, x.shape[:2])

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self._head(self.trunk.attn_pool(self.trunk.norm(x)))

    def _head(self, x: Tensor) -> Tensor:
        return self.visual.head(self.trunk.head(self.trunk.fc_norm(x)))
