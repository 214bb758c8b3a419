"""timm's EVA-02 as open_clip uses it: EVA02-B-16, EVA02-L-14-336.

Rotary embeddings turn queries and keys in every block but the decoupled last one; keys have no bias; an inner norm
precedes each attention's output projection. Blocks are run step by step, since timm's own turn queries and keys in a
dozen small operations each.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens, resample_positions
from declip.models.towers.rotary import Rotary


class EvaTower(ImageTower):
    """An EVA-02 trunk with class token, learned and rotary positions, and class-token pooling.

    Args:
        visual: open_clip's wrapper around timm's ``Eva``.
    """

    pooled_tokens = 1

    def __init__(self, visual: TimmModel) -> None:
        self.visual = visual
        self.trunk = visual.trunk
        self.patch_size = self.trunk.patch_embed.patch_size[0]
        self.image_size = self.trunk.patch_embed.img_size[0]
        self.width = self.trunk.embed_dim
        self.num_heads = self.trunk.blocks[0].attn.num_heads
        self.num_prefix_tokens = self.trunk.num_prefix_tokens

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.trunk.blocks

    def embed(self, images: Tensor) -> Tokens:
        """See :class:`ImageTower`."""
        trunk = self.trunk
        patches = trunk.patch_embed.proj(images)
        grid = tuple(patches.shape[-2:])
        x = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        x = torch.cat([trunk.cls_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        positions = resample_positions(trunk.pos_embed[0], grid, self.num_prefix_tokens)
        rotary = Rotary.of(trunk.rope, grid, self.num_prefix_tokens, x.device)
        return Tokens(trunk.norm_pre(x + positions.to(x.dtype)), rotary)

    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """See :class:`ImageTower`."""
        block, rotary = self.blocks[index], tokens.rotary
        x = block.norm1(tokens.x)
        queries = rotary.turn(self.split_heads(block.attn.q_proj(x[:, :count])))
        keys = rotary.turn(self.split_heads(block.attn.k_proj(x)))
        values = self.split_heads(block.attn.v_proj(x))
        attended = self.merge_heads(F.scaled_dot_product_attention(queries, keys, values))
        x = tokens.x[:, :count] + block.attn.proj(block.attn.norm(attended))
        return Tokens(x + block.mlp(block.norm2(x)), rotary)

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        x = block.norm1(x)
        return block.attn.q_proj(x), block.attn.k_proj(x), block.attn.v_proj(x)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        attention = self.blocks[-1].attn
        return attention.proj(attention.norm(attended))

    def last_feed_forward(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        return x + block.mlp(block.norm2(x))

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.visual.head(self.trunk.head(self.trunk.fc_norm(self.trunk.norm(x))))

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.project(x[:, 0])
