"""Public CAT-Seg checkpoints, and this project's earlier ones, under this project's names; and back.

A linear layer or convolution over ``[x, guidance]`` is one tensor there and two layers here: ``query`` and
``query_guidance``, ``conv1`` and ``conv1_guidance``, its columns (input channels) in that order.
"""

import logging
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError
from declip.weights.files import read_state_dict
from declip.weights.layouts import CATSEG_PREFIX, WIDEST_OPENAI, Translation, translate

ENCODER_PREFIX = "encoder.clip."
HEAD_PREFIX = "sem_seg_head.predictor.transformer."
HEAD_RENAMES = (
    (r"^sem_seg_head\.predictor\.transformer\.", "sem_seg_head.aggregator."),
    (r"^upsample(\d)\.", r"sem_seg_head.upsample\1."),
    (r"\.aggregator\.conv1\.", ".aggregator.embed."),
    (r"\.guidance_projection\.0\.", ".appearance_projection."),
    (r"\.text_guidance_projection\.0\.", ".text_projection."),
    (r"\.decoder_guidance_projection\.(\d)\.0\.", r".decoder_projections.\1."),
    (r"\.decoder(\d)\.up\.", r".decoder.stage\1.up."),
    (r"\.decoder(\d)\.conv\.double_conv\.0\.", r".decoder.stage\1.conv1."),
    (r"\.decoder(\d)\.conv\.double_conv\.1\.", r".decoder.stage\1.norm1."),
    (r"\.decoder(\d)\.conv\.double_conv\.3\.", r".decoder.stage\1.conv2."),
    (r"\.decoder(\d)\.conv\.double_conv\.4\.", r".decoder.stage\1.norm2."),
    (r"\.aggregator\.head\.", ".aggregator.decoder.classify."),
    (r"\.swin_block\.block_1\.", ".spatial.block."),
    (r"\.swin_block\.block_2\.", ".spatial.shifted_block."),
    (r"\.swin_block\.guidance_norm\.", ".spatial.guidance_norm."),
    (r"\.attention\.padding_tokens$", ".category.padding_token"),
    (r"\.attention\.padding_guidance$", ".category.padding_guidance"),
    (r"\.attention\.MLP\.0\.", ".category.expand."),
    (r"\.attention\.MLP\.2\.", ".category.contract."),
    (r"\.attention\.(norm\d)\.", r".category.\1."),
    (r"\.attention\.attention\.", ".category.attn."),
    (r"\.attn\.q\.", ".query."),
    (r"\.attn\.k\.", ".key."),
    (r"\.attn\.v\.", ".value."),
    (r"\.attn\.proj\.", ".project."),
    (r"\.mlp\.fc1\.", ".expand."),
    (r"\.mlp\.fc2\.", ".contract."),
)
PUBLIC_RENAMES = (
    (r"^sem_seg_head\.upsample(\d)\.", r"upsample\1."),
    (r"^sem_seg_head\.aggregator\.", HEAD_PREFIX),
    (r"\.embed\.", ".conv1."),
    (r"\.appearance_projection\.", ".guidance_projection.0."),
    (r"\.text_projection\.", ".text_guidance_projection.0."),
    (r"\.decoder_projections\.(\d)\.", r".decoder_guidance_projection.\1.0."),
    (r"\.decoder\.classify\.", ".head."),
    (r"\.decoder\.stage(\d)\.up\.", r".decoder\1.up."),
    (r"\.decoder\.stage(\d)\.conv1\.", r".decoder\1.conv.double_conv.0."),
    (r"\.decoder\.stage(\d)\.norm1\.", r".decoder\1.conv.double_conv.1."),
    (r"\.decoder\.stage(\d)\.conv2\.", r".decoder\1.conv.double_conv.3."),
    (r"\.decoder\.stage(\d)\.norm2\.", r".decoder\1.conv.double_conv.4."),
    (r"\.spatial\.guidance_norm\.", ".swin_block.guidance_norm."),
    (r"\.spatial\.block\.", ".swin_block.block_1."),
    (r"\.spatial\.shifted_block\.", ".swin_block.block_2."),
    (r"(\.swin_block\.block_\d)\.(query|key|value)\.", lambda m: f"{m[1]}.attn.{m[2][0]}."),
    (r"(\.swin_block\.block_\d)\.project\.", r"\1.attn.proj."),
    (r"(\.swin_block\.block_\d)\.expand\.", r"\1.mlp.fc1."),
    (r"(\.swin_block\.block_\d)\.contract\.", r"\1.mlp.fc2."),
    (r"\.category\.padding_token$", ".attention.padding_tokens"),
    (r"\.category\.padding_guidance$", ".attention.padding_guidance"),
    (r"\.category\.(query|key|value)\.", lambda m: f".attention.attention.{m[1][0]}."),
    (r"\.category\.expand\.", ".attention.MLP.0."),
    (r"\.category\.contract\.", ".attention.MLP.2."),
    (r"\.category\.(norm\d)\.", r".attention.\1."),
)
PUBLIC_EVA_RENAMES = (
    (r"^visual\.trunk\.(.*)\.attn\.(q|v)_proj\.bias$", r"visual.trunk.\1.attn.\2_bias"),
    (r"^visual\.trunk\.(.*)\.attn\.norm\.", r"visual.trunk.\1.attn.inner_attn_ln."),
    (r"^visual\.trunk\.(.*)\.mlp\.fc1_g\.", r"visual.trunk.\1.mlp.w1."),
    (r"^visual\.trunk\.(.*)\.mlp\.fc1_x\.", r"visual.trunk.\1.mlp.w2."),
    (r"^visual\.trunk\.(.*)\.mlp\.fc2\.", r"visual.trunk.\1.mlp.w3."),
    (r"^visual\.trunk\.(.*)\.mlp\.norm\.", r"visual.trunk.\1.mlp.ffn_ln."),
    (r"^visual\.trunk\.", "visual."),
)
GUIDANCE = "_guidance.weight"  # ends the names of the layers that see the guidance alone
RECOMPUTED = r"\.attn_mask$|^(clip_)?pixel_(mean|std)$"


def is_public_catseg(state: dict[str, Tensor]) -> bool:
    """Whether a state dict is of a public CAT-Seg model."""
    return any(key.startswith(CATSEG_PREFIX) for key in state) and any(key.startswith(HEAD_PREFIX) for key in state)


def translate_catseg(state: dict[str, Tensor], own: dict[str, Tensor]) -> Translation:
    """A public CAT-Seg state dict under this project's names, for a model whose own state dict is ``own``."""
    clip = {key.removeprefix(ENCODER_PREFIX): value for key, value in own.items() if key.startswith(ENCODER_PREFIX)}
    encoder = translate({key: value for key, value in state.items() if key.startswith(CATSEG_PREFIX)}, clip)
    translated = {ENCODER_PREFIX + key: tensor for key, tensor in encoder.state.items()}
    left_out = list(encoder.left_out)
    for key, tensor in state.items():
        if key.startswith(CATSEG_PREFIX):
            continue
        if re.search(RECOMPUTED, key):
            left_out.append(key)
            continue
        name = key
        for pattern, replacement in HEAD_RENAMES:
            name = re.sub(pattern, replacement, name)
        fits = name in own and tensor.numel() == own[name].numel()
        translated[name] = tensor.reshape(own[name].shape) if fits else tensor
    translated = split_guided(translated, own)
    return Translation(encoder.layout, translated, tuple(left_out), encoder.resampled, encoder.quick_gelu)


def split_guided(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors over ``[x, guidance]`` as the two that a model has whose own state dict is ``own``; others unchanged."""
    split = dict(state)
    for name, tensor in own.items():
        stem = name.removesuffix(GUIDANCE)
        whole = split.get(f"{stem}.weight")
        if stem == name or name in split or whole is None:
            continue
        channels = own[f"{stem}.weight"].shape[1], tensor.shape[1]
        if whole.dim() > 1 and whole.shape[1] == sum(channels):
            split[f"{stem}.weight"], split[name] = (half.contiguous() for half in whole.split(channels, dim=1))
    return split


def join_guided(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`split_guided`: one tensor for each pair."""
    joined = {name: tensor for name, tensor in state.items() if not name.endswith(GUIDANCE)}
    for name, tensor in state.items():
        stem = name.removesuffix(GUIDANCE)
        if stem != name:
            joined[f"{stem}.weight"] = torch.cat([state[f"{stem}.weight"], tensor], dim=1)
    return joined


def to_public(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of this project's CAT-Seg under the names and in the shapes of the public releases.

    Buffers that are computed anew are left out.
    """
    clip = {key.removeprefix(ENCODER_PREFIX): value for key, value in state.items() if key.startswith(ENCODER_PREFIX)}
    public = {CATSEG_PREFIX + name: tensor for name, tensor in to_public_clip(clip).items()}
    for name, tensor in join_guided(state).items():
        if name.startswith(ENCODER_PREFIX):
            continue
        for pattern, replacement in PUBLIC_RENAMES:
            name = re.sub(pattern, replacement, name)
        public[name] = tensor[None, None] if ".padding_" in name else tensor
    return public


def to_public_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP under the names of public CAT-Seg models, which depend on its family.

    CLIPs no wider than OpenAI's keep query, key and value weights apart, EVA-CLIP has names of its own, all others have
    open_clip's.
    """
    if any(re.search(r"^visual\.trunk\.blocks\.\d+\.attn\.q_proj\.", key) for key in state):
        public = {}
        for name, tensor in state.items():
            for pattern, replacement in PUBLIC_EVA_RENAMES:
                name = re.sub(pattern, replacement, name)
            public[name] = tensor
        return public
    if "visual.conv1.weight" not in state or len(state["visual.conv1.weight"]) > WIDEST_OPENAI:
        return state
    public = {key: tensor for key, tensor in state.items() if not key.endswith(".attn.in_proj_weight")}
    for key in state.keys() - public.keys():
        stem = key.removesuffix("in_proj_weight")
        parts = zip("qkv", state[key].chunk(3), strict=True)
        public |= {f"{stem}{which}_proj_weight": part.contiguous() for which, part in parts}
    return public


def load_model_weights(path: str | Path, model: nn.Module) -> None:
    """Load a checkpoint of this project or a public CAT-Seg release into a :class:`catseg.modeling.CATSeg`, strictly.

    Raises:
        CheckpointError: the file is missing, corrupt, unsafe, or of another model.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"checkpoint {path} does not exist: check MODEL.WEIGHTS")
    state, own = read_state_dict(path), model.state_dict()
    if is_public_catseg(state):
        translation = translate_catseg(state, own)
        check_activation(path, translation, model)
        logging.getLogger(__name__).info("%s: %s", path, translation.describe())
        state = translation.state
    state = split_guided(state, own)
    differences = describe_mismatch(own, state)
    if differences:
        raise CheckpointError(f"checkpoint {path} is of another model than the config describes: {differences}")
    model.load_state_dict(state)


def check_activation(path: Path, translation: Translation, model: nn.Module) -> None:
    """Refuse weights that were trained with another activation function.

    Raises:
        CheckpointError: naming the encoder to choose.
    """
    name = model.encoder.name
    if translation.quick_gelu and not model.encoder.uses_quick_gelu:
        raise CheckpointError(
            f"{path} ({translation.layout}) was trained with QuickGELU, which '{name}' does not use: set "
            f"MODEL.ENCODER.NAME {name}-quickgelu"
        )
