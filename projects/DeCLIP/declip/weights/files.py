"""Weight files: tensors in, from every format that is in use, and safetensors with facts about them out.

A weight file of ours says what it was made for (model, context type, scale, image size), so that loading needs no
repeated options.
"""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError
from declip.weights.torchscript import is_torchscript, read_torchscript

FORMAT = "declip-encoder-1"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def is_weight_file(weights: str) -> bool:
    """Whether ``weights`` names a file rather than an open_clip tag: it exists, or looks like a path."""
    path = Path(weights)
    return path.suffix in SUFFIXES or path.is_file() or os.sep in weights


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


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist: check the path given as encoder weights")
    return path
