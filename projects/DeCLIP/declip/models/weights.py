"""An encoder's weights: saved with what they were made for, loaded from every known layout."""

import logging
from pathlib import Path

from torch import Tensor

from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError
from declip.models.encoder import DenseCLIP
from declip.weights.files import FORMAT, read_metadata, read_state_dict, save_tensors
from declip.weights.layouts import Translation, translate


def save_encoder(
    encoder: DenseCLIP, path: str | Path, state: dict[str, Tensor] | None = None, **metadata: object
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
        "pixel_mean": encoder.pixel_mean.flatten().tolist(),
        "pixel_std": encoder.pixel_std.flatten().tolist(),
        **metadata,
    }
    return save_tensors(encoder.clip.state_dict() if state is None else state, path, facts)


def load_encoder_weights(encoder: DenseCLIP, path: str | Path) -> Translation:
    """Load a weight file of any known layout (see :mod:`declip.weights.layouts`) into an encoder, strictly.

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
