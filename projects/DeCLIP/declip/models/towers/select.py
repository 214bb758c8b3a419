"""Choosing the adapter for a model that open_clip built."""

from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from d2host.engine.errors import ConfigError
from declip.models.towers.base import ImageTower
from declip.models.towers.eva import EvaTower
from declip.models.towers.openclip import OpenCLIPTower
from declip.models.towers.siglip import SigLIPTower
from declip.models.towers.text import TextTower

FAMILIES = (
    "open_clip's own ViT (ViT-B-16, ViT-L-14-336, nano), EVA-02 (EVA02-B-16, EVA02-L-14-336) and "
    "SigLIP (ViT-B-16-SigLIP)"
)


def select_tower(clip: nn.Module, name: str) -> tuple[ImageTower, TextTower]:
    """Adapters for the image and text tower of an open_clip model.

    Raises:
        ConfigError: one of the towers is of a kind no adapter knows.
    """
    text = clip if hasattr(clip, "token_embedding") else clip.text
    if not isinstance(getattr(text, "transformer", None), Transformer) or getattr(text, "cls_emb", None) is not None:
        raise ConfigError(
            f"encoder '{name}' has a text tower of type {type(text).__name__}, which is not supported: "
            f"choose one of {FAMILIES}"
        )
    return _select_image_tower(clip.visual, name), TextTower(text)


def _select_image_tower(visual: nn.Module, name: str) -> ImageTower:
    trunk = getattr(visual, "trunk", None)
    if isinstance(visual, VisionTransformer) and _is_plain(visual):
        return OpenCLIPTower(visual)
    if isinstance(visual, TimmModel) and isinstance(trunk, Eva) and _is_eva02(trunk):
        return EvaTower(visual)
    if isinstance(visual, TimmModel) and isinstance(trunk, TimmVisionTransformer) and trunk.attn_pool is not None:
        return SigLIPTower(visual)
    kind = type(trunk if trunk is not None else visual).__name__
    raise ConfigError(f"encoder '{name}' has an image tower of type {kind}, which is not supported: choose {FAMILIES}")


def _is_plain(visual: VisionTransformer) -> bool:
    blocks = visual.transformer.resblocks
    plain_blocks = all(isinstance(block, ResidualAttentionBlock) for block in blocks)
    return plain_blocks and visual.attn_pool is None and visual.pool_type == "tok" and not visual.final_ln_after_pool


def _is_eva02(trunk: Eva) -> bool:
    """Whether blocks are those of EVA-02's CLIPs: three projections, channels turned in pairs, no layer scale."""
    block = trunk.blocks[0]
    if not isinstance(block, EvaBlock) or not isinstance(block.attn, EvaAttention):
        return False
    attention = block.attn
    extras = [getattr(attention, name, None) for name in ("gate", "q_norm", "k_norm")]  # newer than the oldest timm
    plain = all(extra is None or isinstance(extra, nn.Identity) for extra in extras)
    in_pairs = not getattr(attention, "rotate_half", False)
    return attention.q_proj is not None and block.gamma_1 is None and plain and in_pairs
