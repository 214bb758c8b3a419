"""open_clip's own vision transformer: OpenAI's, LAION's and DataComp's ViTs, CLIPA, CoCa and ``nano``.

CoCa pools by attention, with queries of which the first is the image's. Each token passes that pool alone, as it does
that of SigLIP (:mod:`declip.models.towers.timm`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import AttentionalPooler, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens
from declip.weights.positions import resample_positions


class OpenCLIPTower(ImageTower):
    """A ViT with class token and learned positions.

    Args:
        visual: open_clip's tower; pooled by its class token, the mean of its patches, or attention.
    """

    num_prefix_tokens = 1

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.patch_size = visual.patch_size[0]
        self.image_size = visual.image_size[0]
        self.width = visual.conv1.out_channels
        self.embed_dim = visual.proj.shape[1]
        self.num_heads = visual.transformer.resblocks[0].attn.num_heads
        self.pooled_tokens = 1 if visual.attn_pool is None and visual.pool_type == "tok" else None

    @staticmethod
    def missing(visual: VisionTransformer) -> str:
        """See :class:`ImageTower`."""
        if not all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks):
            return "its blocks are not open_clip's plain ones"
        if visual.attn_pool is not None and visual.attn_pool_contrastive is not None:
            return "it pools by attention twice"
        if visual.pool_type not in ("tok", "avg"):
            return "it does not pool its tokens"
        return ""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.visual.transformer.resblocks

    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """See :class:`ImageTower`."""
        visual = self.visual
        patches = visual.conv1(images)
        class_token = visual.class_embedding.to(patches.dtype).expand(images.shape[0], 1, -1)
        x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + resample_positions(visual.positional_embedding, tuple(patches.shape[-2:]), 1).to(x.dtype)
        return Tokens(visual.ln_pre(visual.patch_dropout(x) if drop_patches else x))

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`. One tensor of ``nn.MultiheadAttention`` holds the three projections."""
        block = self.blocks[-1]
        return F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=-1)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        return block.ls_1(block.attn.out_proj(attended))

    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block, x = self.blocks[-1], residual + attended
        return x + block.ls_2(block.mlp(block.ln_2(x)))

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        visual = self.visual
        if visual.attn_pool is not None:
            x = pool_alone(visual.attn_pool, x)
        return visual.ln_post(x) @ visual.proj

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        pooled, _ = self.visual._pool(x)
        return pooled @ self.visual.proj


def pool_alone(pool: AttentionalPooler, x: Tensor) -> Tensor:
    """What a pool's queries, which then agree, get of each token when it is all they see: B×L×D → B×L×E."""
    keys = pool.ln_k(x).flatten(0, 1).unsqueeze(1)
    query = pool.ln_q(pool.query[:1]).expand(len(keys), 1, -1)
    return pool.attn(query, keys, keys, need_weights=False)[0].unflatten(0, x.shape[:2]).squeeze(2)
