"""Encoders of every family, made of the libraries' own classes and small enough for tests; every parameter random."""

import pytest
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import nn

from declip.models.encoder import DenseCLIP

TIMM = {
    "eva": ("eva02_base_patch16_clip_224", "eva02_tiny_patch14_224", "token"),
    "siglip": ("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_224", "map"),
}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 32, "heads": 2, "layers": 2}


@pytest.fixture
def small_encoder():
    """Builds an encoder of a family: ``openclip``, ``eva`` or ``siglip``."""
    return build


def build(family, drop_path=0.0, patch_drop=0.0, text=(), **options):
    """Three narrow blocks for 64-px images in 16-px patches, in evaluation mode."""
    text_cfg = CLIPTextCfg(**TEXT | dict(text))
    if family == "openclip":
        vision = CLIPVisionCfg(
            image_size=64, patch_size=16, width=48, layers=3, head_width=16, patch_dropout=patch_drop
        )
        clip = CLIP(24, vision, text_cfg)
    else:
        trunk_name, stand_in, pool = TIMM[family]
        size = {"num_heads": 3, "embed_dim": 48, "depth": 3, "img_size": 64, "num_classes": 0}
        drops = {"drop_path_rate": drop_path, "patch_drop_rate": patch_drop}
        trunk = timm.create_model(trunk_name, pretrained=False, **size, **drops)
        vision = CLIPVisionCfg(image_size=64, timm_model_name=stand_in, timm_pool=pool, timm_proj="")
        clip = CustomTextCLIP(24, vision, text_cfg)
        clip.visual.trunk, clip.visual.head = trunk, nn.Sequential(nn.Linear(48, 24, bias=False))
    generator = torch.Generator().manual_seed(0)
    for parameter in clip.parameters():
        nn.init.normal_(parameter, mean=0.5 if parameter.dim() < 2 else 0.0, std=0.1, generator=generator)
    statistics = {"pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3}
    return DenseCLIP(clip, name=family, tokenizer=None, **statistics, **options).eval()
