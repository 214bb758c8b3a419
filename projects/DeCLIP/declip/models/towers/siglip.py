"""timm's SigLIP vision transformer as open_clip uses it: ViT-B-16-SigLIP and its larger sisters.

SigLIP has no class token: a learned query pools all tokens by attention. The dense counterpart of pooling follows
MaskCLIP's reading of CLIP's attention pool (ECCV 2022, Sec. 3.2): a token's own embedding is what the pool returns
when that token is all it sees, so each token passes the pool by itself.
"""

from collections.abc import Sequence

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
        self.trunk.patch_embed.strict_img_size = False  # images of any size
        self.patch_size = self.trunk.patch_embed.patch_size[0]
        self.image_size = self.trunk.patch_embed.img_size[0]
        self.width = self.trunk.embed_dim
        self.num_heads = self.trunk.blocks[0].attn.num_heads

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.trunk.blocks

    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """See :class:`ImageTower`."""
        trunk = self.trunk
        grid = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        x = trunk.patch_embed(images)
        x = trunk.pos_drop(x + resample_positions(trunk.pos_embed[0], grid, 0).to(x.dtype))
        return Tokens(trunk.norm_pre(trunk.patch_drop(x) if drop_patches else x))

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`. One layer holds the three projections."""
        block = self.blocks[-1]
        return block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        return block.ls1(block.attn.proj_drop(block.attn.proj(attended)))

    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        x = residual + block.drop_path1(attended)
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`: every token passes the attention pool alone."""
        alone = self.trunk.norm(x).flatten(0, 1).unsqueeze(1)
        return self._head(self.trunk.attn_pool(alone)).unflatten(0, x.shape[:2])

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self._head(self.trunk.attn_pool(self.trunk.norm(x)))

    def _head(self, x: Tensor) -> Tensor:
        trunk = self.trunk
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(x))))
