"""Choosing the adapter for a model that open_clip built."""

import difflib
from collections.abc import Iterable

import open_clip
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
FAMILY_PREFIXES = ("ViT-", "EVA02-")  # of open_clip's names


def select_tower(clip: nn.Module, name: str) -> tuple[ImageTower, TextTower]:
    """Adapters for the image and text tower of an open_clip model.

    Raises:
        ConfigError: one of the towers is of a kind no adapter knows.
    """
    text = clip if hasattr(clip, "token_embedding") else clip.text
    if not isinstance(getattr(text, "transformer", None), Transformer):
        raise ConfigError(
            f"encoder '{name}' has a text tower of type {type(text).__name__}, which is not supported (open_clip's "
            f"own transformers are): {advice(name)}"
        )
    if getattr(text, "cls_emb", None) is not None or text.text_projection is None:
        raise ConfigError(
            f"encoder '{name}' has a text tower with a class token or without a projection, which is not supported: "
            f"{advice(name)}"
        )
    return _select_image_tower(clip.visual, name), TextTower(clip)


def advice(name: str, added: Iterable[str] = ()) -> str:
    """The supported names closest to one that is not, and what is supported."""
    known = [*added, *(model for model in open_clip.list_models() if model.startswith(FAMILY_PREFIXES))]
    close = difflib.get_close_matches(name, [model for model in known if model != name], n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return f"{hint}Supported are {FAMILIES}"


def _select_image_tower(visual: nn.Module, name: str) -> ImageTower:
    trunk = getattr(visual, "trunk", None)
    missing = f"no adapter for an image tower of type {type(visual if trunk is None else trunk).__name__}"
    if isinstance(visual, VisionTransformer):
        missing = _missing_of_openclip(visual)
        if not missing:
            return OpenCLIPTower(visual)
    elif isinstance(visual, TimmModel) and isinstance(trunk, Eva):
        missing = missing_of_eva(trunk)
        if not missing:
            return EvaTower(visual)
    elif isinstance(visual, TimmModel) and isinstance(trunk, TimmVisionTransformer):
        missing = _missing_of_siglip(trunk)
        if not missing:
            return SigLIPTower(visual)
    raise ConfigError(f"encoder '{name}' is not supported ({missing}): {advice(name)}")


def _missing_of_openclip(visual: VisionTransformer) -> str:
    if not all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks):
        return "its blocks are not open_clip's plain ones"
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
        return "it does not pool by its class token"
    return ""


def missing_of_eva(trunk: Eva) -> str:
    """What keeps an EVA trunk from being one of EVA-02's CLIPs (three projections, channels turned in pairs, no layer
    scale, a class token that is read); empty where nothing does."""
    block = trunk.blocks[0]
    if not isinstance(block, EvaBlock) or not isinstance(block.attn, EvaAttention) or trunk.rope is None:
        return "its blocks are not EVA-02's"
    if block.attn.q_proj is None or block.gamma_1 is not None or getattr(block.attn, "rotate_half", False):
        return "its attention is not EVA-02's CLIP's"
    if _has_extras(block.attn, ("gate", "q_norm", "k_norm")):
        return "its attention norms or gates"
    if trunk.global_pool != "token" or trunk.pos_embed is None:
        return "it does not pool by its class token"
    return ""


def _missing_of_siglip(trunk: TimmVisionTransformer) -> str:
    if trunk.attn_pool is None or trunk.num_prefix_tokens or trunk.pos_embed is None:
        return "it does not pool by attention over patches alone"
    if _has_extras(trunk.blocks[0].attn, ("gate", "norm", "q_norm", "k_norm")):
        return "its attention norms or gates"
    return ""


def _has_extras(attention: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether an attention has parts that only newer versions of timm know."""
    extras = [getattr(attention, name, None) for name in names]
    return any(extra is not None and not isinstance(extra, nn.Identity) for extra in extras)
