"""timm's vision transformers as open_clip uses them: one tower for each anatomy of their last block.

* :class:`VitTower`: SigLIP and SigLIP 2, MobileCLIP's ViTs, ViTamin (whose tokens come from convolutions)
* :class:`EvaTower`: EVA-02, EVA-01, the Perception Encoder
* :class:`EvaPostNormTower`: the enormous EVA-02

Where a learned query pools all tokens by attention (SigLIP, Perception Encoder), the dense counterpart follows
MaskCLIP's reading of CLIP's attention pool (ECCV 2022, Sec. 3.2): a token's own embedding is what the pool returns
when that token is all it sees, so each token passes the pool by itself.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import Attention, RotaryEmbeddingCat, apply_keep_indices_nlc, build_rotary_pos_embed
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from declip.models.towers.base import ImageTower, Tokens
from declip.weights.positions import resample_positions


class VitTower(ImageTower):
    """A ``VisionTransformer`` of timm: one layer makes queries, keys and values.

    Args:
        visual: open_clip's wrapper.
    """

    def __init__(self, visual: TimmModel) -> None:
        self.visual = visual
        self.trunk = trunk = visual.trunk
        trunk.patch_embed.strict_img_size = False  # images of any size
        self.patch_size = trunk.patch_embed.feat_ratio()
        self.image_size = trunk.patch_embed.img_size[0]
        self.width = trunk.embed_dim
        self.num_heads = trunk.blocks[0].attn.num_heads
        self.num_prefix_tokens = trunk.num_prefix_tokens
        self.pooled_tokens = 1 if trunk.global_pool == "token" else None
        layers = [layer for head in (trunk.head, visual.head) for layer in head.modules()]
        widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        self.embed_dim = widths[-1] if widths else self.width

    @staticmethod
    def missing(visual: TimmModel) -> str:
        """See :class:`ImageTower`."""
        block = visual.trunk.blocks[0]
        if type(block) is not Block or type(block.attn) is not Attention:
            return "its blocks are not timm's plain ones"
        return _missing_of_any(visual.trunk)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, first to last."""
        return self.trunk.blocks

    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """See :class:`ImageTower`."""
        x = self.embed_patches(images)
        return Tokens(self.trunk.norm_pre(self.trunk.patch_drop(x) if drop_patches else x))

    def embed_patches(self, images: Tensor) -> Tensor:
        """Prefix tokens and patches with their positions, B×L×D; prefix tokens may have none, and all."""
        trunk = self.trunk
        patches = trunk.patch_embed(images)
        prefix = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        x = torch.cat([*(token.expand(len(images), -1, -1).to(patches.dtype) for token in prefix), patches], dim=1)
        if trunk.pos_embed is None:
            return x
        with_positions = 0 if trunk.no_embed_class else self.num_prefix_tokens
        positions = resample_positions(trunk.pos_embed[0], self.grid(images), with_positions).to(x.dtype)
        return trunk.pos_drop(x + F.pad(positions, (0, 0, self.num_prefix_tokens - with_positions, 0)))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images."""
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
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
        """See :class:`ImageTower`."""
        trunk, x = self.trunk, self.trunk.norm(x)
        if trunk.attn_pool is not None:
            x = trunk.attn_pool(x.flatten(0, 1).unsqueeze(1)).unflatten(0, x.shape[:2])
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(x))))

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(x)))


class EvaTower(VitTower):
    """An ``Eva`` of timm.

    Rotary embeddings, where it has them, turn queries and keys in every block but the decoupled last one; keys have no
    bias; an inner norm may precede each attention's output projection.

    Args:
        visual: open_clip's wrapper.
    """

    @staticmethod
    def missing(visual: TimmModel) -> str:
        """See :class:`ImageTower`."""
        trunk, block = visual.trunk, visual.trunk.blocks[0]
        if getattr(block, "gamma_1", None) is not None:
            return "its blocks scale their halves"
        if getattr(block.attn, "num_kv_groups", 1) > 1:
            return "its queries share keys"
        if trunk.rope is not None and type(trunk.rope) is not RotaryEmbeddingCat:
            return "its rotary embedding is another"
        return _missing_of_any(trunk)

    def embed(self, images: Tensor, drop_patches: bool = False) -> Tokens:
        """See :class:`ImageTower`."""
        trunk, x = self.trunk, self.embed_patches(images)
        rope = self.rotary_embedding(self.grid(images), x.device)
        if drop_patches and trunk.patch_drop is not None:
            x, kept = trunk.patch_drop(x)
            if rope is not None and kept is not None:
                rope = apply_keep_indices_nlc(x, rope, kept).unsqueeze(1)
        return Tokens(trunk.norm_pre(x), rope)

    def rotary_embedding(self, grid: tuple[int, int], device: torch.device) -> Tensor | None:
        """See :class:`ImageTower`; float32, in the coordinates of the tower's reference grid.

        timm's own module keeps those of one grid only.
        """
        rope = self.trunk.rope
        if rope is None:
            return None
        names = ("dim", "max_res", "temperature", "linear_bands", "in_pixels", "ref_feat_shape", "grid_offset")
        options = {name: getattr(rope, name) for name in (*names, "grid_indexing")}
        return torch.cat(build_rotary_pos_embed(list(grid), device=device, **options), dim=-1)

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        return self.project_heads(self.blocks[-1].norm1(x))

    def project_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the last block's attention: of three layers, or of one with biases beside it."""
        attention = self.blocks[-1].attn
        if attention.qkv is None:
            return attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
        x = attention.qkv(x)
        if getattr(attention, "q_bias", None) is not None:
            x = x + torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        return x.chunk(3, dim=-1)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        attention = self.blocks[-1].attn
        return attention.proj_drop(attention.proj(attention.norm(attended)))

    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        x = residual + block.drop_path1(attended)
        return x + block.drop_path2(block.mlp(block.norm2(x)))


class EvaPostNormTower(EvaTower):
    """An ``Eva`` of timm whose blocks norm what their halves give instead of what they take."""

    norms_first = False

    def last_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ImageTower`."""
        return self.project_heads(x)

    def last_output(self, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        return self.blocks[-1].norm1(super().last_output(attended))

    def last_feed_forward(self, residual: Tensor, attended: Tensor) -> Tensor:
        """See :class:`ImageTower`."""
        block = self.blocks[-1]
        x = residual + block.drop_path1(attended)
        return x + block.drop_path2(block.norm2(block.mlp(x)))


EVA_BLOCKS = {EvaBlock: EvaTower, EvaBlockPostNorm: EvaPostNormTower}


def _missing_of_any(trunk: nn.Module) -> str:
    """What keeps any trunk of timm's from being supported."""
    attention = trunk.blocks[0].attn
    extras = [getattr(attention, name, None) for name in ("gate", "q_norm", "k_norm")]
    if any(extra is not None and not isinstance(extra, nn.Identity) for extra in extras):
        return "its attention norms or gates"
    if getattr(attention, "rotate_half", False):
        return "its rotary embedding is another"
    if trunk.global_pool not in ("token", "avg", "map"):
        return "it does not pool its tokens"
    return ""
