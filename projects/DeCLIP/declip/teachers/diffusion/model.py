"""A denoising UNet that is shown a slightly noised image, and what its self-attention relates.

Shape legend
    h, w  grid of the student, N = h * w          c  latent cells per token, along a side
    f     pixels per latent cell, along a side    Z  channels of the latent
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from d2host.engine.digest import digest_of
from d2host.engine.errors import ConfigError
from d2host.engine.tensors import check_finite
from declip.teachers.diffusion.attention import Fusion, fuse, recording, self_attentions

CONDITIONS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")


@dataclass(frozen=True)
class DiffusionOptions:
    """How maps are made.

    Attributes:
        layers: names of modules of the UNet; all self-attentions in them count, in this order. Without any, the first
            two attention blocks of the finest level on the way up.
        timestep: entry of the sampler's timesteps, which descend.
        steps: of the sampler.
        threshold: see :func:`declip.teachers.diffusion.attention.sharpened`.
        fusion: of heads and layers.
        cells: c.
        seed: of the noise.

    Source: timestep 45 of 50 is generalized DeCLIP's; layers and threshold are CLIPer's.
    """

    layers: tuple[str, ...] = ()
    timestep: int = 45
    steps: int = 50
    threshold: float = 0.2
    fusion: Fusion = Fusion.CHAIN
    cells: int = 2
    seed: int = 0


class DiffusionAttention(nn.Module):
    """The self-attention of a frozen diffusion model, fused to one map of the student's tokens.

    Args:
        unet: ``UNet2DConditionModel`` or ``UNet2DModel`` of `diffusers`.
        scheduler: ``DDIMScheduler`` of `diffusers`, with the noise that the UNet knows.
        vae: ``AutoencoderKL`` of `diffusers`; None: the UNet denoises pixels.
        prompt: 1×L×E embedding of the empty prompt; None: the UNet knows no prompts.
        options: how maps are made.

    Attributes:
        pixels: per token, along a side, that an image has to have.

    Raises:
        ConfigError: the VAE does not fit the UNet, or the UNet has no such self-attention, or takes other sizes or more
            than a latent and a prompt.

    >>> from diffusers import DDIMScheduler, UNet2DModel
    >>> down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    >>> sizes = {"block_out_channels": (8, 16), "norm_num_groups": 8, "layers_per_block": 1}
    >>> unet = UNet2DModel(down_block_types=down, up_block_types=up, **sizes)
    >>> diffusion = DiffusionAttention(unet, DDIMScheduler(), options=DiffusionOptions(cells=4))
    >>> attention = diffusion(torch.rand(3, 16, 24) * 255, grid=(4, 6), noise="of this image")
    >>> attention.shape, attention.sum(dim=1).allclose(torch.ones(24))
    (torch.Size([24, 24]), True)
    """

    def __init__(
        self,
        unet: nn.Module,
        scheduler: object,
        vae: nn.Module | None = None,
        prompt: Tensor | None = None,
        options: DiffusionOptions | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.vae, self.options = unet, vae, options or DiffusionOptions()
        channels = vae.config.latent_channels if vae else 3
        if channels != unet.config.in_channels:
            gives = f"its VAE gives {channels} channels" if vae else "it has no VAE and images have 3 channels"
            raise ConfigError(
                f"the diffusion model's UNet denoises {unet.config.in_channels} channels, but {gives}: take both from "
                "one model"
            )
        if more := [key for key in CONDITIONS if unet.config.get(key)]:
            raise ConfigError(
                f"the diffusion model's UNet takes more than a latent and a prompt ({', '.join(more)}), which an image "
                "alone does not give: take another model, such as Stable Diffusion 1.5 or 2.1"
            )
        divisor = 2 ** (len(unet.config.block_out_channels) - 1)
        if prompt is None and self.options.cells % divisor:
            raise ConfigError(
                f"the diffusion model's UNet takes latents whose sides are multiples of {divisor}, but a token has "
                f"{self.options.cells} cells: choose MODEL.DIFFUSION.CELLS so that tokens have such sides"
            )
        self.layers = _wanted(self_attentions(unet), self.options.layers)
        self.pixels = self.options.cells * (2 ** (len(vae.config.block_out_channels) - 1) if vae else 1)
        known = scheduler.config.num_train_timesteps
        if self.options.steps > known:
            raise ConfigError(
                f"MODEL.DIFFUSION.STEPS is {self.options.steps}, but the diffusion model knows {known} timesteps: "
                "choose fewer"
            )
        self.scheduler = scheduler
        scheduler.set_timesteps(self.options.steps)
        self.register_buffer("timestep", scheduler.timesteps[self.options.timestep].clone(), persistent=False)
        self.register_buffer("prompt", prompt, persistent=False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor, grid: tuple[int, int], noise: str) -> Tensor:
        """The fused map of one image: maps do not depend on what else is in a batch.

        Args:
            image: 3×(h*c*f)×(w*c*f) in 0..255.
            grid: (h, w).
            noise: what the noise, with the seed, is a function of: a text that stands for the image.

        Returns:
            N×N float32, rows sum to 1.

        Raises:
            ConfigError: a layer's grid cannot be brought to the student's.
            CheckpointError: the map is not finite.
        """
        with torch.autocast(image.device.type, enabled=False):
            latent = self._encode((image[None] / 127.5 - 1).to(self.unet.dtype))
            seed = int.from_bytes(
                hashlib.sha256(f"{self.options.seed} {noise}".encode()).digest()[:8], "big", signed=True
            )
            drawn = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
            noised = self.scheduler.add_noise(latent, drawn, self.timestep[None])
            with recording(self.layers, grid) as maps:
                conditions = () if self.prompt is None else (self.prompt.to(latent.dtype),)
                self.unet(noised, self.timestep, *conditions)
            fused = fuse([maps[name] for name in self.layers], self.options.threshold, self.options.fusion)
        check_finite(fused, f"the diffusion model's attention maps of image {noise}")
        return fused

    def _encode(self, image: Tensor) -> Tensor:
        """1×3×H×W in [-1, 1] → 1×Z×(H/f)×(W/f), without noise of the VAE's own."""
        if self.vae is None:
            return image
        config = self.vae.config
        mean = self.vae.encode(image).latent_dist.mean
        return (mean - (config.get("shift_factor") or 0)) * config.scaling_factor

    def fingerprint(self) -> dict[str, object]:
        """All that maps depend on besides the image, for a cache."""
        options = self.options
        level = self.scheduler.alphas_cumprod[self.timestep.cpu()]
        given = {"noise": level} if self.prompt is None else {"noise": level, "prompt": self.prompt}
        parts = [dict(part.config) for part in (self.unet, self.vae) if part is not None]
        shapes = [{key: value for key, value in part.items() if not key.startswith("_")} for part in parts]
        return {
            "weights": digest_of({**self.state_dict(), **given}),
            "model": hashlib.sha256(json.dumps(shapes, sort_keys=True, default=str).encode()).hexdigest()[:16],
            "precision": str(self.unet.dtype).removeprefix("torch."),
            "layers": list(self.layers),
            "timestep": int(self.timestep),
            "threshold": options.threshold,
            "fusion": options.fusion.value,
            "cells": options.cells,
            "seed": options.seed,
        }


def _wanted(known: dict[str, nn.Module], layers: Sequence[str]) -> dict[str, nn.Module]:
    """The self-attentions below the modules that are named, by name."""
    blocks = sorted({name.partition(".transformer_blocks.")[0] for name in known})
    if not layers:
        up = [block for block in blocks if block.startswith("up_blocks.")]
        finest = [block for block in up if block.split(".")[1] == max((each.split(".")[1] for each in up), key=int)]
        if not finest:
            raise ConfigError("the diffusion model's UNet has no self-attention on its way up: name layers, or another")
        layers = finest[:2]
    found = {}
    for layer in layers:
        below = {name: module for name, module in known.items() if name == layer or name.startswith(f"{layer}.")}
        if not below:
            raise ConfigError(
                f"the diffusion model's UNet has no self-attention in '{layer}' (MODEL.DIFFUSION.LAYERS): it has some "
                f"in {', '.join(blocks) or 'none of its blocks'}"
            )
        found.update(below)
    return found
