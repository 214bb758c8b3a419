"""Diffusion models from files: a folder as `diffusers` writes it, a name on the Hugging Face hub, or a plug-in's."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from d2host.engine.errors import CheckpointError, ConfigError, in_brief
from d2host.engine.precision import Precision
from declip.plugins import from_plugins
from declip.teachers.diffusion.model import DiffusionAttention, DiffusionOptions
from declip.weights.files import read_state_dict

EXTRA = 'pip install -e ".[diffusion]"'
PRETRAINED, RANDOM = "pretrained", "random"
PROMPT_FILE, PROMPT_TOKENS = "empty_prompt.safetensors", 77
FAULTS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)  # of the library


def load_diffusion(
    name: str,
    weights: str = PRETRAINED,
    precision: Precision = Precision.FP32,
    options: DiffusionOptions | None = None,
) -> DiffusionAttention:
    """A diffusion model, whatever of it self-attention needs.

    A model is made of ``unet``, ``scheduler``, ``vae`` (without, the UNet denoises pixels) and, where the UNet takes
    prompts, either ``text_encoder`` and ``tokenizer`` or a file ``empty_prompt.safetensors`` with an ``embedding`` L×E.

    Args:
        name: a folder, a plug-in's model, or a name on the hub, which is downloaded.
        weights: ``pretrained``, of safetensors files; or ``random``, where only each ``config.json`` has to be there.
        precision: of weights and forward pass.
        options: how maps are made.

    Raises:
        ConfigError: `diffusers` is missing, or the model, or a part of it, cannot be had or does not fit.
        CheckpointError: weights are damaged or of another model.
    """
    check_extra(name)
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel

    source = str(from_plugins("diffusions").get(name, name))
    local = os.path.isdir(source)
    if not local and (source.count("/") != 1 or os.path.isabs(source)):
        known = ", ".join(from_plugins("diffusions")) or "none"
        raise ConfigError(
            f"diffusion model '{name}' is unknown: give a folder, owner/name on the hub, or a plug-in's ({known})"
        )
    kind = _config(UNet2DModel, source, "unet", name).get("_class_name")
    classes = {each.__name__: each for each in (UNet2DModel, UNet2DConditionModel)}
    if kind not in classes:
        raise ConfigError(f"diffusion model '{name}' has a UNet of class {kind}: known are {', '.join(classes)}")
    unet = _part(classes[kind], source, "unet", weights, name)
    vae = None
    if not local or os.path.isdir(os.path.join(source, "vae")):
        vae = _part(AutoencoderKL, source, "vae", weights, name)
        vae.decoder = nn.Identity()  # only images are encoded
    scheduler = DDIMScheduler.from_config(_config(DDIMScheduler, source, "scheduler", name))
    prompt = _empty_prompt(source, weights, name, unet.config.cross_attention_dim) if kind != "UNet2DModel" else None
    return DiffusionAttention(unet, scheduler, vae, prompt, options).to(precision.dtype)


def check_extra(name: str) -> None:
    """Make sure that a diffusion model could be loaded here.

    Raises:
        ConfigError: `diffusers` is missing.
    """
    if find_spec("diffusers") is None:
        raise ConfigError(f"MODEL.DIFFUSION.NAME '{name}' needs packages (diffusers missing): {EXTRA}")


def _config(kind: type, source: str, part: str, name: str) -> dict[str, Any]:
    try:
        return kind.load_config(source, subfolder=part)
    except FAULTS as error:
        raise ConfigError(
            f"{part} of diffusion model '{name}' cannot be had ({in_brief(error)}): check the name and the network, or "
            "give a folder that holds it"
        ) from error


def _part(kind: type, source: str, part: str, weights: str, name: str) -> nn.Module:
    """A model with all of its weights, from safetensors; or random."""
    config = _config(kind, source, part, name)
    try:
        if weights == RANDOM:
            return kind.from_config(config)
        options = {"subfolder": part, "use_safetensors": True, "low_cpu_mem_usage": False}
        model, info = kind.from_pretrained(source, output_loading_info=True, **options)
    except FAULTS as error:
        raise CheckpointError(
            f"{part} of diffusion model '{name}' cannot be loaded ({in_brief(error)}): it has to be a safetensors file "
            "that fits its config.json; get it again, or take another model"
        ) from error
    differences = [f"{len(keys)} {what.replace('_', ' ')}" for what, keys in info.items() if keys]
    if differences:
        raise CheckpointError(
            f"{part} of diffusion model '{name}' does not fit its config.json ({', '.join(differences)}): get it again"
        )
    return model


def _empty_prompt(source: str, weights: str, name: str, width: int) -> Tensor:
    """The embedding of the empty prompt, 1×L×E: constant, so that no text encoder is needed later."""
    file = Path(source) / PROMPT_FILE
    if weights == RANDOM:
        return torch.zeros(1, PROMPT_TOKENS, width)
    if file.is_file():
        embedding = read_state_dict(file).get("embedding", torch.zeros(0))
    else:
        if find_spec("transformers") is None:
            raise ConfigError(
                f"the empty prompt of diffusion model '{name}' needs packages (transformers missing): {EXTRA}"
            )
        from transformers import CLIPTextModel, CLIPTokenizer

        try:
            tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
            encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder", use_safetensors=True).eval()
        except FAULTS as error:
            raise ConfigError(
                f"the empty prompt of diffusion model '{name}' cannot be had ({in_brief(error)}): it needs "
                f"text_encoder and tokenizer, or a file {PROMPT_FILE}"
            ) from error
        tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
        with torch.no_grad():
            embedding = encoder(tokens.input_ids)[0][0].float()
    if embedding.dim() != 2 or embedding.shape[1] != width:
        raise ConfigError(
            f"the empty prompt of diffusion model '{name}' has shape {tuple(embedding.shape)}, but its UNet takes "
            f"L×{width}"
        )
    return embedding[None].float()
