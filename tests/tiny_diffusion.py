"""Diffusion models of a second, as `diffusers` writes them."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel, UNet2DModel
from safetensors.torch import save_file

LAYERS = ("up_blocks.1.attentions.0", "up_blocks.1.attentions.1")
PIXELS = 4  # of a token: two latent cells of two pixels


def tiny_unet(channels=4, **options) -> UNet2DConditionModel:
    """In the manner of Stable Diffusion: two levels, a transformer on the finer one and in the middle."""
    kinds = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 6}
    return UNet2DConditionModel(
        in_channels=channels, out_channels=channels, attention_head_dim=2, **{**kinds, **sizes, **options}
    )


def tiny_vae(channels=4) -> AutoencoderKL:
    """Two pixels per latent cell."""
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
    }
    return AutoencoderKL(latent_channels=channels, norm_num_groups=4, sample_size=16, **blocks)


def pixel_unet(**options) -> UNet2DModel:
    """Without prompts and latents; attention on the coarser of two levels."""
    kinds = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8}
    return UNet2DModel(**{**kinds, **sizes, **options})


def save_tiny_diffusion(folder: Path, unet=None, vae=None) -> Path:
    """A whole model in a folder, with the empty prompt in a file of its own."""
    torch.manual_seed(0)
    (unet or tiny_unet()).save_pretrained(folder / "unet")
    (vae or tiny_vae()).save_pretrained(folder / "vae")
    PNDMScheduler(skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    save_file({"embedding": torch.randn(5, 6)}, folder / "empty_prompt.safetensors")
    return folder


def save_pixel_diffusion(folder: Path) -> Path:
    """A model of pixels in a folder."""
    torch.manual_seed(0)
    pixel_unet().save_pretrained(folder / "unet")
    DDIMScheduler().save_pretrained(folder / "scheduler")
    return folder


def stable_vae() -> AutoencoderKL:
    """Eight pixels per latent cell, as Stable Diffusion has them."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(latent_channels=4, block_out_channels=(32,) * 4, **blocks)


def save_configs(folder: Path, unet, vae) -> Path:
    """A model without weights in a folder, for random ones."""
    unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    PNDMScheduler(skip_prk_steps=True, steps_offset=1).save_config(folder / "scheduler")
    return folder
