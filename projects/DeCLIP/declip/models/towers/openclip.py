"""open_clip's own vision transformer: OpenAI's ViT-B-16 and ViT-L-14-336, LAION's and DataComp's, and ``nano``."""

from collections.abc import Sequence

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens, resample_positions
from declip.models.towers.residual import feed_forward, project_qkv, run_residual_block


class OpenCLIPTower(ImageTower):
    """A ViT with class token, learned positions and a norm before the first block.

    Args:
        visual: open_clip's tower; class-token pooling and a linear projection.
    """

    num_prefix_tokens = 1
    pooled_tokens = 1

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.patch_size = visual.patch_size[0]
        self.image_size = visual.image_size[0]
        self.width = visual.conv1.out_channels
        self.num_heads = visual.transformer.resblocks[0].attn.num_heads

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.visual.transformer.resblocks

    def embed(self, images: Tensor) -> Tokens:
        """See :class:`ImageTower`."""
        patches = self.visual.conv1(images)
        class_token = self.visual.class_embedding.to(patches.dtype).expand(images.shape[0], 1, -1)
        x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        positions = resample_positions(self.visual.positional_embedding, tuple(patches.shape[-2:]), 1)
        return Tokens(self.visual.ln_pre(x + positions.to(x.dtype)))

    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """See :class:`ImageTower`."""
        block = self.blocks[index]
        return Tokens(run_residual_block(block, tokens.x, causal=False, freeze_keys=self.freeze_keys, count=count))

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        return project_qkv(self.blocks[-1], x, self.freeze_keys)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.blocks[-1].attn.out_proj(attended)

    def last_feed_forward(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return feed_forward(self.blocks[-1], x)

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.visual.ln_post(x) @ self.visual.proj

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.project(x[:, 0])
