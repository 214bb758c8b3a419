"""Everybody's names for the same tensors: published checkpoints in, open_clip's names out.

The layout of a state dict is recognised from its keys. Tensors are renamed, what is known to be recomputed is left
out, and positional embeddings of another resolution are resampled; whatever else differs is for the caller to refuse.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from declip.weights.positions import resample_positions

CATSEG_PREFIX = "sem_seg_head.predictor.clip_model."
WIDEST_OPENAI = 1024  # channels of OpenAI's largest image tower; CAT-Seg's wider ones are open_clip's

Rename = tuple[str, str]

EVA_RENAMES: tuple[Rename, ...] = (
    (r"^visual\.(?!trunk\.)", "visual.trunk."),
    (r"\.attn\.(q|v)_bias$", r".attn.\1_proj.bias"),
    (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
)
RECOMPUTED = (
    r"(^|\.)(rope\..*|freqs_(cos|sin)|attn_mask|input_resolution|context_length|vocab_size|num_batches_tracked)$"
)


@dataclass(frozen=True)
class Layout:
    """A way to name the tensors of a CLIP.

    Attributes:
        name: what reports call it.
        recognises: whether a state dict is of this layout.
        renames: (regular expression, replacement), applied in order.
        prefix: of the CLIP's keys; others are left out.
        quick_gelu: whether its models use QuickGELU.
    """

    name: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    renames: tuple[Rename, ...] = ()
    prefix: str = ""
    quick_gelu: Callable[[Mapping[str, Tensor]], bool] = field(default=lambda state: False)


def _has(pattern: str) -> Callable[[Mapping[str, Tensor]], bool]:
    return lambda state: any(re.search(pattern, key) for key in state)


def _openai_width(state: Mapping[str, Tensor]) -> bool:
    return state[f"{CATSEG_PREFIX}visual.conv1.weight"].shape[:1] <= (WIDEST_OPENAI,)


_EVA_KEYS = r"visual\.blocks\.\d+\.attn\."

LAYOUTS = (
    Layout("CAT-Seg on EVA-CLIP", _has(rf"^{re.escape(CATSEG_PREFIX)}{_EVA_KEYS}"), EVA_RENAMES, CATSEG_PREFIX),
    Layout(
        "CAT-Seg on CLIP",
        _has(rf"^{re.escape(CATSEG_PREFIX)}visual\.conv1\."),
        prefix=CATSEG_PREFIX,
        quick_gelu=_openai_width,
    ),
    Layout("EVA-CLIP", _has(rf"^{_EVA_KEYS}"), EVA_RENAMES),
    Layout("OpenAI CLIP", _has(r"^input_resolution$"), quick_gelu=lambda state: True),
    Layout("open_clip", lambda state: True),
)
"""From the most specific; the last takes what no other recognises."""


@dataclass(frozen=True)
class Translation:
    """A state dict under open_clip's names.

    Attributes:
        layout: name of the layout recognised.
        state: the tensors.
        left_out: keys of the original that the model does not take.
        resampled: positional embeddings whose resolution was changed, "key: from -> to".
        quick_gelu: whether the weights were trained with QuickGELU.
    """

    layout: str
    state: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    quick_gelu: bool = False

    def describe(self) -> str:
        """One line about what happened."""
        parts = [f"layout {self.layout}, {len(self.state)} tensors"]
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out (such as {self.left_out[0]})")
        parts += [f"resampled {each}" for each in self.resampled]
        return "; ".join(parts)


def recognise(state: Mapping[str, Tensor]) -> Layout:
    """The layout of a state dict."""
    return next(layout for layout in LAYOUTS if layout.recognises(state))


def translate(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Translation:
    """Rename a state dict to open_clip's names for a model whose own state dict is ``own``.

    Tensors that ``own`` lacks stay in, unless they are known to be recomputed.
    """
    layout = recognise(state)
    translated, left_out, resampled = {}, [], []
    for key, tensor in _join_projections(state).items():
        name = key.removeprefix(layout.prefix)
        outside = bool(layout.prefix) and not key.startswith(layout.prefix)
        for pattern, replacement in layout.renames:
            name = re.sub(pattern, replacement, name)
        if outside or (name not in own and re.search(RECOMPUTED, name)):
            left_out.append(key)
            continue
        fitted = _fit_positions(name, tensor, own)
        if fitted is not tensor:
            resampled.append(f"{name}: {tuple(tensor.shape)} -> {tuple(fitted.shape)}")
        translated[name] = fitted
    return Translation(layout.name, translated, tuple(left_out), tuple(resampled), layout.quick_gelu(state))


def _join_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value weights that are kept apart (CAT-Seg's CLIP), as the one matrix that open_clip has."""
    joined = {}
    for key, tensor in state.items():
        stem = key.removesuffix(".attn.q_proj_weight")
        if stem != key:
            parts = [state.get(f"{stem}.attn.{which}_proj_weight") for which in "qkv"]
            if all(part is not None and part.dim() and part.shape == tensor.shape for part in parts):
                joined[f"{stem}.attn.in_proj_weight"] = torch.cat(parts)
                continue
        whole = re.sub(r"\.attn\.[kv]_proj_weight$", ".attn.in_proj_weight", key)
        if whole == key or whole not in joined:
            joined[key] = tensor
    return joined


def _fit_positions(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """Positions of the image tower on the model's grid; anything else, and positions that fit, unchanged."""
    if name not in ("visual.positional_embedding", "visual.trunk.pos_embed") or name not in own:
        return tensor
    wanted = own[name].shape
    if tensor.shape == wanted or tensor.shape[-1:] != wanted[-1:]:
        return tensor
    side = round((wanted[-2] - 1) ** 0.5)
    prefix = wanted[-2] - side**2
    positions = tensor.reshape(-1, wanted[-1])
    count = len(positions) - prefix
    if count < 1 or math.isqrt(count) ** 2 != count:
        return tensor
    return resample_positions(positions.float(), (side, side), prefix).reshape(wanted)
