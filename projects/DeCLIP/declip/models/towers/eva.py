"""timm's EVA-02 as open_clip uses it: EVA02-B-16, EVA02-L-14-336.

Rotary embeddings turn queries and keys in every block but the decoupled last one; keys have no bias; an inner norm
precedes each attention's output projection.
"""

from collections.abc import Sequence

import torch
from open_clip.timm_model import TimmModel
from timm.layers import apply_keep_indices_nlc, build_rotary_pos_embed
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens, resample_positions


class EvaTower(ImageTower):
    """An EVA-02 trunk with class token, learned and rotary positions, and class-token pooling.

    Args:
        visual: open_clip's wrapper around timm's ``Eva``.
    """

    pooled_tokens = 1

    def __init__(self, visual: TimmModel) -> None:
        self.visual = visual
        self.trunk = visual.trunk
        self.trunk.patch_embed.strict_img_size = False  # images of any size
        self.patch_size = self.trunk.patch_embed.patch_size[0]
        self.image_size = self.trunk.patch_embed.img_size[0]
        self.width = self.trunk.embed_dim
        self.num_heads = self.trunk.blocks[0].attn.num_heads
        self.num_prefix_tokens = self.trunk.num_prefix_tokens

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.trunk.blocks

    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """See :class:`ImageTower`."""
        trunk = self.trunk
        grid = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        patches = trunk.patch_embed(images)
        x = torch.cat([trunk.cls_token.expand(images.shape[0], -1, -1).to(patches.dtype), patches], dim=1)
        x = trunk.pos_drop(x + resample_positions(trunk.pos_embed[0], grid, self.num_prefix_tokens).to(x.dtype))
        rope = self.rotary_embedding(grid, x.device)
        if drop_patches and trunk.patch_drop is not None:
            x, kept = trunk.patch_drop(x)
            rope = rope if kept is None else apply_keep_indices_nlc(x, rope, kept).unsqueeze(1)
        return Tokens(trunk.norm_pre(x), rope)

    def rotary_embedding(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """Sines and cosines h*w×2d of a grid in the coordinates of the tower's reference grid, float32.

        timm's own module keeps those of one grid only.
        """
        rope = self.trunk.rope
        names = ("dim", "max_res", "temperature", "linear_bands", "in_pixels", "ref_feat_shape", "grid_offset")
        options = {name: getattr(rope, name) for name in (*names, "grid_indexing")}
        return torch.cat(build_rotary_pos_embed(list(grid), device=device, **options), dim=-1)

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        attention, x = self.blocks[-1].attn, self.blocks[-1].norm1(x)
        return attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        attention = self.blocks[-1].attn
        return attention.proj_drop(attention.proj(attention.norm(attended)))

    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        x = residual + block.drop_path1(attended)
        return x + block.drop_path2(block.mlp(block.norm2(x)))

    def project(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        trunk = self.trunk
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(trunk.norm(x)))))

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.project(x[:, 0])
