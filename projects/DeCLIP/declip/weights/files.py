"""Weight files: tensors in, from every format that is in use, and safetensors with facts about them out.

A weight file of ours says what it was made for (model, context type, scale, image size), so that loading needs no
repeated options.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError, in_brief
from d2host.engine.tensors import check_state_dict, load_pickled
from declip.contexts import AttentionScale, ContextType
from declip.weights.torchscript import is_torchscript, read_torchscript

FORMAT = "declip-encoder-1"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def is_weight_file(weights: str) -> bool:
    """Whether ``weights`` names a file rather than an open_clip tag: it exists, or looks like a path."""
    return Path(weights).suffix in SUFFIXES or os.path.isfile(weights) or os.sep in weights


def save_tensors(state: Mapping[str, Tensor], path: str | Path, facts: Mapping[str, object]) -> Path:
    """Write tensors as safetensors with JSON-serialisable facts about them, atomically.

    Raises:
        CheckpointError: the file cannot be written (a full disk, no permission), or a tensor is none that could be
            loaded again, such as one with values that are not finite.
    """
    path = Path(path)
    check_state_dict(state, f"what would be written to {path}")
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


def read_facts(path: str | Path) -> dict[str, str]:
    """The facts stored in any safetensors file, each in JSON; empty for other files.

    Raises:
        CheckpointError: the file is missing or corrupt.
    """
    path = _existing(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:  # whatever the bytes make the library do
        raise CheckpointError(f"{path} is not a readable safetensors file ({in_brief(error)}): get it again") from error


def read_metadata(path: str | Path) -> dict[str, object]:
    """The facts stored with weights of an encoder that this project wrote; empty for other files.

    Raises:
        CheckpointError: the file is missing or corrupt, or its facts are none that we write.
    """
    stored = read_facts(path)
    if stored.get("format") != f'"{FORMAT}"':
        return {}
    try:
        facts = {key: json.loads(value) for key, value in stored.items()}
        if not isinstance(facts.get("model"), str) or not facts["model"].isprintable():
            raise ValueError(f"model is {facts.get('model')!r}")
        for key, kind in (("context", ContextType), ("attention_scale", AttentionScale)):
            kind(facts.get(key))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"what {path} says of its weights is damaged ({in_brief(error)}): get it again, or convert the original"
        ) from error
    return facts


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file, without wrappers (``state_dict``, ``model``) and ``module.`` prefixes.

    Pickles are read with ``weights_only``, and one that holds code is refused; of TorchScript archives only the
    tensors are read. Tensors are checked: see :func:`d2host.engine.tensors.check_state_dict`.

    Raises:
        CheckpointError: missing, corrupt or unsafe file, or one without tensors or with some that no model can have.
    """
    path = _existing(path)
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except Exception as error:  # whatever the bytes make the library do
            raise CheckpointError(
                f"{path} is not a readable safetensors file ({in_brief(error)}): get it again"
            ) from error
    else:
        state = read_torchscript(path) if is_torchscript(path) else load_pickled(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    checked = check_state_dict(state, path)
    renamed = {key.removeprefix("module."): value for key, value in checked.items()}
    if len(renamed) < len(checked):
        raise CheckpointError(f"{path} names tensors both with and without 'module.': keep one of each")
    return renamed


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not os.path.isfile(path):  # unlike the path's own method, of names too long for a file, too
        raise CheckpointError(f"weight file {path} does not exist or is no file: check the path of the weights")
    return path
