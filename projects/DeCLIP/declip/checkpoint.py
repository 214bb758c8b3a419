"""Encoder weights on disk: safetensors with metadata out, and every known layout in.

A weight file of ours says what it was made for (model, context type, scale, image size), so that loading needs no
repeated options.
"""

import json
import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from declip.atomic import replacing
from declip.errors import CheckpointError
from declip.layouts import Translation, translate
from declip.torchscript import is_torchscript, read_torchscript

if TYPE_CHECKING:
    from declip.encoder import DenseCLIP

FORMAT = "declip-encoder-1"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def is_weight_file(weights: str) -> bool:
    """Whether ``weights`` names a file rather than an open_clip tag: it exists, or looks like a path."""
    path = Path(weights)
    return path.suffix in SUFFIXES or path.is_file() or os.sep in weights


def save_encoder(
    encoder: "DenseCLIP", path: str | Path, state: dict[str, Tensor] | None = None, **metadata: object
) -> Path:
    """Write an encoder's weights as safetensors, atomically.

    Args:
        encoder: whose weights.
        path: where to; an existing file is replaced only by a whole new one.
        state: tensors to write instead of the encoder's own, under the same names.
        metadata: further facts to keep with the weights (teacher, iterations, ...), JSON-serialisable.

    Raises:
        CheckpointError: the file cannot be written (a full disk, no permission).
    """
    facts = {
        "format": FORMAT,
        "model": encoder.name,
        "context": encoder.context.value,
        "attention_scale": encoder.attention_scale.value,
        "image_size": encoder.image_size,
        **metadata,
    }
    return save_tensors(encoder.clip.state_dict() if state is None else state, path, facts)


def save_tensors(state: Mapping[str, Tensor], path: str | Path, facts: Mapping[str, object]) -> Path:
    """Write tensors as safetensors with JSON-serialisable facts about them, atomically.

    Raises:
        CheckpointError: the file cannot be written (a full disk, no permission).
    """
    path = Path(path)
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={key: json.dumps(value) for key, value in facts.items()})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"weights could not be written to {path} ({error}): free space or choose another path"
        ) from error
    return path


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with floating-point ones in float16, for small files."""
    return {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def read_metadata(path: str | Path) -> dict[str, object]:
    """The facts stored with a weight file of ours; empty for other files.

    Raises:
        CheckpointError: the file is missing or corrupt.
    """
    path = _existing(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(str(path), framework="pt") as file:
            stored = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}): get it again") from error
    return {key: json.loads(value) for key, value in stored.items()} if stored.get("format") == f'"{FORMAT}"' else {}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file, without wrappers (``state_dict``, ``model``) and ``module.`` prefixes.

    Pickles are read with ``weights_only``, and one that holds code is refused; of TorchScript archives only the
    tensors are read.

    Raises:
        CheckpointError: missing, corrupt or unsafe file, or one without tensors.
    """
    path = _existing(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif is_torchscript(path):
            state = read_torchscript(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is corrupt or holds more than tensors, so it is not loaded: get safe weights"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, KeyError, BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): it may be truncated; get it again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors: give a weight file of a CLIP model")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_encoder_weights(encoder: "DenseCLIP", path: str | Path) -> Translation:
    """Load a weight file of any known layout (see :mod:`declip.layouts`) into an encoder, strictly.

    Returns:
        What was recognised, left out and resampled; it is logged, too.

    Raises:
        CheckpointError: the file is unreadable, its tensors are not those of this model, or its model has another
            activation function.
    """
    made_for = read_metadata(path).get("model", encoder.name)
    if made_for != encoder.name:
        raise CheckpointError(f"{path} holds weights of '{made_for}', not of '{encoder.name}': change one of the two")
    own = encoder.clip.state_dict()
    translation = translate(read_state_dict(path), own)
    differences = describe_mismatch(own, translation.state)
    if differences:
        raise CheckpointError(f"{path} ({translation.layout}) does not fit '{encoder.name}': {differences}")
    if translation.quick_gelu and not encoder.uses_quick_gelu:
        raise CheckpointError(
            f"{path} ({translation.layout}) was trained with QuickGELU, which '{encoder.name}' does not use: build "
            f"'{encoder.name}-quickgelu'"
        )
    encoder.clip.load_state_dict(translation.state)
    logging.getLogger(__name__).info("%s: %s", path, translation.describe())
    return translation


def describe_mismatch(expected: dict[str, Tensor], given: dict[str, Tensor], limit: int = 4) -> str:
    """What keeps one state dict from fitting another, in words; empty where it fits."""
    kinds = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of wrong shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in given and given[key].shape != tensor.shape
        ],
    }
    words = []
    for kind, keys in kinds.items():
        if keys:
            more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
            words.append(f"{len(keys)} {kind} ({', '.join(keys[:limit])}{more})")
    return "; ".join(words)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist: check the path given as encoder weights")
    return path
