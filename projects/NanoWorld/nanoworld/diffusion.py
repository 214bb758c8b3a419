"""nano-diffusion: a denoising UNet of diffusers', small enough to train on a laptop, without text or labels.

It is laid out as diffusers lays out Stable Diffusion (a folder with ``unet/`` and ``scheduler/``), but works on pixels
and knows no prompts: there is no ``vae/`` and no ``text_encoder/``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError, ConfigError
from declip.weights.files import half_precision, read_state_dict, save_tensors
from nanoworld.weights import shipped_diffusion

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DModel

DIFFUSION_NAME = "nano-diffusion"
SIDE = 64  # of its images, pixels: scenes at half their size
UNET_WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")  # where diffusers looks for them


def create_nano_diffusion(weights: str = "") -> "UNet2DModel":
    """nano-diffusion: 64-px images in [-1, 1]; two heads of self-attention over 32×32 tokens, once down and twice up.

    Args:
        weights: ``nano-diffusion`` (shipped) or a folder as diffusers writes it; empty: random.

    Raises:
        CheckpointError: the folder has no weights, or those of another model.
        ConfigError: diffusers is missing.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise ConfigError(
            f"nano-diffusion needs diffusers ({error}): pip install diffusers, or this project with its extra "
            "[diffusion]"
        ) from error
    model = UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
    )
    if weights:
        state = read_state_dict((shipped_diffusion(weights) or Path(weights)) / UNET_WEIGHTS)
        differences = describe_mismatch(model.state_dict(), state)
        if differences:
            raise CheckpointError(f"{weights} is not {DIFFUSION_NAME}: {differences}")
        model.load_state_dict(state)
    return model


def create_scheduler() -> "DDPMScheduler":
    """Stable Diffusion's noise: 1000 timesteps, of which 0 is the cleanest."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


def save_nano_diffusion(model: "UNet2DModel", folder: Path, facts: dict[str, object]) -> Path:
    """Write a folder that diffusers reads, weights in half precision and last, so that they are never without config.

    Raises:
        CheckpointError: the weights cannot be written.
    """
    model.save_config(folder / "unet")
    create_scheduler().save_config(folder / "scheduler")
    return save_tensors(half_precision(model.state_dict()), folder / UNET_WEIGHTS, {"model": DIFFUSION_NAME, **facts})
