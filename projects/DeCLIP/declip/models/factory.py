"""Building an encoder by name: a CLIP of open_clip, or of a plug-in, with weights."""

import difflib
from dataclasses import dataclass

import open_clip
from torch import nn

from d2host.engine.errors import ConfigError
from declip.models.attention import AttentionScale, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.towers.select import FAMILIES
from declip.models.weights import load_encoder_weights
from declip.plugins import from_plugins
from declip.weights.files import is_weight_file, read_metadata


@dataclass(frozen=True)
class ClipModel:
    """A model and the statistics of its images (RGB in [0, 1])."""

    clip: nn.Module
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]


def create_clip(name: str, tag: str | None = None) -> ClipModel:
    """Create a model by open_clip name, with random weights or those of a pretrained tag.

    Without a tag nothing is downloaded.

    Raises:
        ConfigError: the name or the tag is unknown, or the tag's weights cannot be had.
    """
    added = from_plugins("encoders")
    if name in added:
        if tag:
            known = ", ".join(from_plugins("weights"))
            raise ConfigError(
                f"'{tag}' is neither a weight file nor known for '{name}': give one of {known}, or a path"
            )
        return ClipModel(added[name].create(), added[name].pixel_mean, added[name].pixel_std)
    if open_clip.get_model_config(name) is None:
        close = difflib.get_close_matches(name, [*added, *open_clip.list_models()], n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise ConfigError(f"encoder '{name}' is unknown: {hint}Supported are {FAMILIES}")
    if tag is not None:
        _check_tag(name, tag)
    try:
        clip = open_clip.create_model(name, pretrained=tag, pretrained_text=False)
    except (OSError, RuntimeError) as error:
        if tag is None:
            raise
        raise ConfigError(
            f"weights '{tag}' of '{name}' could not be downloaded or read ({type(error).__name__}: {error}): check "
            "the network, or download the file by hand and give its path"
        ) from error
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    return ClipModel(clip, tuple(preprocess["mean"]), tuple(preprocess["std"]))


def _check_tag(name: str, tag: str) -> None:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag.lower().replace("-", "_") not in {known.lower().replace("-", "_") for known in tags}:
        known = f"the tags of '{name}' are {', '.join(tags)}" if tags else f"'{name}' has no pretrained tags"
        raise ConfigError(f"weights '{tag}' are neither a file nor an open_clip tag: {known}")


def load_tokenizer(name: str):
    """The tokenizer of a model: a callable from a list of texts to N×L int64 token ids, made at its first use.

    Making it lazily keeps encoders whose tokenizer would have to be downloaded usable for images without a network.
    """
    added = from_plugins("encoders")
    return added[name].tokenizer() if name in added else _OpenCLIPTokenizer(name)


class _OpenCLIPTokenizer:
    """open_clip's tokenizer of a model, fetched when first called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tokenizer = None

    def __call__(self, texts: list[str]):
        if self._tokenizer is None:
            try:
                self._tokenizer = open_clip.get_tokenizer(self.name)
            except OSError as error:
                raise ConfigError(f"the tokenizer of '{self.name}' could not be downloaded: {error}") from error
        return self._tokenizer(texts)


def build_encoder(
    name: str,
    weights: str | None = None,
    context: str | None = None,
    attention_scale: str | None = None,
) -> DenseCLIP:
    """Build an encoder by name.

    Args:
        name: any open_clip name of a supported family (``EVA02-B-16``, ``ViT-L-14-336``, ...) or ``nano``.
        weights: None or empty for random weights, an open_clip pretrained tag, a path to a weight file, or, for
            ``nano``, one of the shipped ``nano-clip`` and ``nano-declip``.
        context: a :class:`ContextType` value; None: what the weight file says, else ``qk``.
        attention_scale: an :class:`AttentionScale` value; None: what the weight file says, else ``sqrt_d``.

    Raises:
        ConfigError: unknown name, tag, context or scale.
        CheckpointError: the weight file is missing, corrupt or made for another model.
    """
    weights = str(from_plugins("weights").get(weights, weights)) if weights else None
    path = weights if weights and is_weight_file(weights) else None
    metadata = read_metadata(path) if path else {}
    model = create_clip(name, tag=weights if weights and not path else None)
    encoder = DenseCLIP(
        model.clip,
        name=name,
        tokenizer=load_tokenizer(name),
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        context=_parse(ContextType, "context", context or metadata.get("context", "qk")),
        attention_scale=_parse(
            AttentionScale, "attention_scale", attention_scale or metadata.get("attention_scale", "sqrt_d")
        ),
    )
    if path:
        load_encoder_weights(encoder, path)
    return encoder


def _parse(kind, key: str, value: str):
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(
            f"{key} '{value}' is unknown: choose one of {', '.join(member.value for member in kind)}"
        ) from None
