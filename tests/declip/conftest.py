"""Encoders of every family, built by open_clip from its own catalogue and small enough for tests; every parameter
random."""

from unittest import mock

import open_clip
import pytest
import timm
import torch
from timm.models import vision_transformer_hybrid
from timm.models.vitamin import VitCfg
from torch import nn

from declip.models.encoder import DenseCLIP

CATALOGUE = {
    "openclip": "ViT-B-16",
    "layerscale": "ViT-M-16-alt",
    "clipa": "ViT-L-14-CLIPA",
    "coca": "coca_ViT-B-32",
    "eva": "EVA02-B-16",
    "eva01": "EVA01-g-14",
    "eva-enormous": "EVA02-E-14",
    "pe": "PE-Core-B-16",
    "siglip": "ViT-B-16-SigLIP",
    "mobileclip": "MobileCLIP-B",
    "mobileclip2": "MobileCLIP2-L-14",
    "vitamin": "ViTamin-S",
    "vitamin-xl": "ViTamin-XL-256",
    "gap": "vit_medium_patch16_gap_256",
}
TRUNK = {"embed_dim": 48, "depth": 3, "num_heads": 3, "patch_size": 16, "img_size": 64}
VITAMIN = {"patch_size": 1, "embed_cfg": VitCfg(embed_dim=(8, 8, 48), depths=(1, 1, 1), stem_width=8)}
TRUNKS = {
    "pe": {"ref_feat_shape": (4, 4)},
    "mobileclip": {"patch_size": 1},
    "vitamin": VITAMIN,
    "vitamin-xl": VITAMIN,
}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 32, "heads": 2, "layers": 2}


@pytest.fixture(scope="session")
def small_encoder():
    """Builds an encoder of a family."""
    return build


@pytest.fixture(scope="session", params=CATALOGUE)
def family(request):
    """Every family that the installed open_clip has."""
    if CATALOGUE[request.param] not in open_clip.list_models():
        pytest.skip(f"open_clip {open_clip.__version__} has no {CATALOGUE[request.param]}")
    return request.param


def build(family, drop_path=0.0, patch_drop=0.0, text=(), **options):
    """Three narrow blocks for 64-px images in 16-px patches, in evaluation mode."""
    name = CATALOGUE[family]
    config = open_clip.get_model_config(name)
    vision = {**config["vision_cfg"], "image_size": 64}
    if "timm_model_name" in vision:
        vision |= {"timm_drop_path": drop_path, "patch_dropout": patch_drop}
    else:
        small = {"patch_size": 16, "width": 48, "layers": 3, "head_width": 16, "patch_dropout": patch_drop}
        vision |= small | ({"attn_pooler_heads": 2} if family == "coca" else {})
    kept = ("pool_type", "no_causal_mask", "embed_cls", "proj_bias", "output_tokens")
    text_cfg = {key: config["text_cfg"][key] for key in kept if key in config["text_cfg"]} | TEXT | dict(text)
    sizes = {"embed_dim": 48 if vision.get("timm_proj") == "none" else 24, "vision_cfg": vision, "text_cfg": text_cfg}
    if family == "coca":
        sizes["multimodal_cfg"] = TEXT
    create, stem = timm.create_model, vision_transformer_hybrid.ConvStem
    with (
        mock.patch.object(timm, "create_model", lambda *a, **k: create(*a, **k, **TRUNK | TRUNKS.get(family, {}))),
        mock.patch.object(vision_transformer_hybrid, "ConvStem", lambda **k: stem(**k | {"channels": (8, 8, 48)})),
    ):
        clip = open_clip.create_model(name, pretrained_text=False, **sizes)
    generator = torch.Generator().manual_seed(0)
    for parameter in clip.parameters():
        nn.init.normal_(parameter, mean=0.5 if parameter.dim() < 2 else 0.0, std=0.1, generator=generator)
    statistics = {"pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3}
    return DenseCLIP(clip, name=family, tokenizer=None, **statistics, **options).eval()
