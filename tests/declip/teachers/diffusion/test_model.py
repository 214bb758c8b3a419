from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler

from d2host.engine.errors import CheckpointError, ConfigError
from declip.teachers.diffusion import DiffusionAttention, DiffusionOptions, Fusion
from declip.teachers.diffusion.attention import fuse, recording, self_attentions
from tests.tiny_diffusion import LAYERS, PIXELS, pixel_unet, tiny_unet, tiny_vae

GRID, IMAGE = (3, 5), (3, 3 * PIXELS, 5 * PIXELS)


def diffusion(unet=None, vae=None, **options):
    torch.manual_seed(0)
    unet, vae = unet or tiny_unet(), vae or tiny_vae()
    return DiffusionAttention(
        unet, DDIMScheduler(steps_offset=1), vae, torch.randn(1, 5, 6), DiffusionOptions(**options)
    )


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, IMAGE, generator=torch.Generator().manual_seed(1)).float()


def test_it_is_the_fused_attention_of_one_pass_over_the_noised_latent(image):
    model = diffusion()
    assert (model.pixels, int(model.timestep)) == (PIXELS, 81)
    captured = {}
    model.unet.register_forward_pre_hook(lambda _, args: captured.update(args=args))
    found = model(image, GRID, "image")
    with torch.no_grad():
        latent = model.vae.encode(image[None] / 127.5 - 1).latent_dist.mean * model.vae.config.scaling_factor
        noised, timestep, prompt = captured["args"]
        alpha = model.scheduler.alphas_cumprod[81]
        noise = (noised - alpha.sqrt() * latent) / (1 - alpha).sqrt()
        assert abs(noise.mean()) < 0.5 and 0.7 < noise.std() < 1.3  # drawn from N(0, 1)
        layers = {name: layer for name, layer in self_attentions(model.unet).items() if name.startswith(LAYERS)}
        with recording(layers, GRID) as maps:
            model.unet(noised, timestep, prompt)
    torch.testing.assert_close(found, fuse(list(maps.values()), 0.2))
    assert found.shape == (15, 15) and found.dtype == torch.float32


def test_noise_is_that_of_the_seed_and_the_image(image):
    maps = [
        diffusion(seed=seed, timestep=20)(image, GRID, name) for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    ]
    assert torch.equal(maps[0], maps[1])
    assert not any(torch.equal(first, second) for first, second in pairwise(maps[1:]))


def test_options_reach_the_map(image):
    plain = diffusion()(image, GRID, "image")
    others = [{"layers": LAYERS[:1]}, {"timestep": 10}, {"threshold": 0.9}, {"fusion": Fusion.MEAN}]
    for options in others:
        assert not torch.equal(diffusion(**options)(image, GRID, "image"), plain), options


def test_more_cells_reach_coarser_levels(image):
    middle = {"layers": ("mid_block.attentions.0",)}
    with pytest.raises(ConfigError, match=r"layer mid_block\..* has 15 tokens, which cannot be .* 3×5|has 6 tokens"):
        diffusion(cells=1, **middle)(image[:, :6, :10], GRID, "image")
    assert diffusion(cells=2, **middle)(image, GRID, "image").shape == (15, 15)


def test_a_unet_of_pixels_needs_neither_vae_nor_prompt(image):
    model = DiffusionAttention(pixel_unet(), DDIMScheduler(), options=DiffusionOptions(cells=4))
    assert model.pixels == 4 and model(image, GRID, "image").sum().item() == pytest.approx(15)
    with pytest.raises(ConfigError, match="takes latents whose sides are multiples of 2, but a token has 1 cells"):
        DiffusionAttention(pixel_unet(), DDIMScheduler(), options=DiffusionOptions(cells=1))


def test_it_never_trains_and_autocast_leaves_it_alone(image):
    model = diffusion().train()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    plain = model(image, GRID, "image")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(image, GRID, "image"), plain, rtol=0, atol=0)
    half = diffusion().to(torch.bfloat16)(image, GRID, "image")
    assert half.dtype == torch.float32 and half.sum().item() == pytest.approx(15, rel=1e-3)


def test_what_maps_depend_on_is_in_the_fingerprint():
    base = diffusion().fingerprint()
    assert diffusion().fingerprint() == base
    changed = [{"layers": LAYERS[:1]}, {"timestep": 10}, {"threshold": 0.9}, {"fusion": Fusion.MEAN}, {"cells": 4}]
    for options in [*changed, {"seed": 1}, {"vae": tiny_vae()}, {"unet": tiny_unet()}]:
        assert diffusion(**options).fingerprint() != base, options
    assert diffusion().to(torch.bfloat16).fingerprint() != base
    other = diffusion()
    other.prompt[0, -1] += 1
    assert other.fingerprint() != base
    heads = diffusion()
    heads.unet.register_to_config(attention_head_dim=4)
    assert heads.fingerprint() != base


def test_a_map_that_is_not_finite_is_an_error(image):
    model = diffusion()
    next(iter(model.layers.values())).to_q.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="the diffusion model's attention maps of image 00ff are not finite"):
        model(image, GRID, "00ff")


REFUSED = {
    "more than a latent and a prompt": (
        {"unet": tiny_unet(num_class_embeds=3)},
        "takes more than a latent and a prompt .num_class_embeds., which an image alone does not give",
    ),
    "vae of another model": (
        {"vae": tiny_vae(3)},
        "UNet denoises 4 channels, but its VAE gives 3 channels: take both from one model",
    ),
    "no self-attention on the way up": (
        {"unet": tiny_unet(up_block_types=("UpBlock2D", "UpBlock2D"))},
        "has no self-attention on its way up",
    ),
    "more steps than there are": ({"steps": 1001}, "STEPS is 1001, but the diffusion model knows 1000 timesteps"),
    "unknown layer": (
        {"layers": ("up_blocks.0",)},
        r"no self-attention in 'up_blocks.0' \(MODEL.DIFFUSION.LAYERS\): it has some in down_blocks.0.attentions.0, ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_serve_is_refused(case):
    options, sentence = REFUSED[case]
    with pytest.raises(ConfigError, match=sentence):
        diffusion(**options)


def test_latents_without_a_vae_are_refused():
    with pytest.raises(ConfigError, match="denoises 4 channels, but it has no VAE and images have 3 channels"):
        DiffusionAttention(tiny_unet(), DDIMScheduler(), prompt=torch.randn(1, 5, 6))
