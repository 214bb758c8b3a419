"""Building an encoder by name: a CLIP of open_clip, or of a plug-in, with weights."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import open_clip
from torch import nn

from d2host.engine.errors import ConfigError, in_brief
from d2host.engine.tensors import check_state_dict
from declip.contexts import AttentionScale, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.towers.select import advice
from declip.models.weights import load_encoder_weights
from declip.plugins import from_plugins
from declip.weights.files import is_weight_file, read_metadata

HUB_CACHE = "check the network, or bring Hugging Face's cache (HF_HOME) from a machine that has it"
RANDOM = "random"  # as weights: those a model is initialised with
EXTRA = "pip install transformers sentencepiece, or this project with its extra [transformers]"


@dataclass(frozen=True)
class ClipModel:
    """A model and the statistics of its images (RGB in [0, 1])."""

    clip: nn.Module
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]


def create_clip(name: str, tag: str | None = None) -> ClipModel:
    """Create a model by open_clip name, with random weights or those of a pretrained tag.

    Without a tag nothing is downloaded but the configuration of a text tower that Hugging Face's hub keeps, and the
    statistics are those of the name's first tag.

    Raises:
        ConfigError: the name or the tag is unknown, the tag's weights cannot be had, or a package is missing.
        CheckpointError: the tag's weights are not finite, or degenerate.
    """
    check_name(name)
    added = from_plugins("encoders")
    tags = [] if name in added else open_clip.list_pretrained_tags_by_model(name)
    if tag is not None and tag.lower().replace("-", "_") not in {known.lower().replace("-", "_") for known in tags}:
        raise ConfigError(f"weights '{tag}' of '{name}' are unknown: give {known_weights(name)}")
    if name in added:
        return ClipModel(added[name].create(), added[name].pixel_mean, added[name].pixel_std)
    hub_name = open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")
    if hub_name and find_spec("transformers") is None:
        raise ConfigError(
            f"encoder '{name}' has the text tower of {hub_name}, which needs a package that is not installed: {EXTRA}"
        )
    published = open_clip.get_pretrained_cfg(name, tag or tags[0]) if tags else {}
    statistics = {key: published[key] for key in ("mean", "std") if published.get(key)}
    try:
        with _silent_of_random_weights():
            clip = open_clip.create_model(name, pretrained=tag, pretrained_text=False, force_preprocess_cfg=statistics)
    except Exception as error:  # whatever the library meets in the network, in a file, or among the packages
        reason = f"{type(error).__name__}: {in_brief(error)}"
        if tag is None and hub_name:
            raise ConfigError(
                f"the text tower of '{name}', {hub_name}, cannot be had ({reason}): {HUB_CACHE}"
            ) from error
        if tag is None:
            raise ConfigError(f"encoder '{name}' cannot be built ({reason}): choose another") from error
        raise ConfigError(
            f"weights '{tag}' of '{name}' could not be downloaded or read ({reason}): check the network, or download "
            "the file by hand and give its path"
        ) from error
    if tag is not None:
        check_state_dict(clip.state_dict(), f"the file of weights '{tag}' of '{name}'")
    preprocess = open_clip.get_model_preprocess_cfg(clip)
    return ClipModel(clip, tuple(preprocess["mean"]), tuple(preprocess["std"]))


@contextmanager
def _silent_of_random_weights() -> Iterator[None]:
    """Keep open_clip from warning of random weights where those of a file come next, or random ones are asked for."""

    def wanted(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    logging.getLogger().addFilter(wanted)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(wanted)


def check_name(name: str) -> None:
    """Refuse names that neither open_clip nor a plug-in knows.

    Raises:
        ConfigError: naming those that come closest.
    """
    added = from_plugins("encoders")
    try:
        known = name in added or open_clip.get_model_config(name) is not None
    except (OSError, ValueError) as error:  # of a model by its folder or repository
        raise ConfigError(f"encoder '{name}' cannot be read ({error}): {advice(name, added)}") from error
    if not known:
        raise ConfigError(f"encoder '{name}' is unknown: {advice(name, added)}")


def known_weights(name: str) -> str:
    """What may be given as weights of a model, in words.

    >>> known_weights("EVA02-B-16")
    "an open_clip tag of 'EVA02-B-16' (merged2b_s8b_b131k), a weight file, or random"
    """
    if name in from_plugins("encoders"):
        return f"a name that a plug-in adds ({', '.join(from_plugins('weights'))}), a weight file, or random"
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = f"an open_clip tag of '{name}' ({', '.join(tags)}), " if tags else ""
    return f"{tag}a weight file, or random"


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
            except ImportError as error:
                raise ConfigError(
                    f"the tokenizer of '{self.name}' needs a package that is not installed ({error}): {EXTRA}"
                ) from error
            except (OSError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"the tokenizer of '{self.name}' could not be downloaded ({in_brief(error)}): {HUB_CACHE}"
                ) from error
        return self._tokenizer(texts)


def resolve_weights(weights: str) -> str:
    """The file behind a name that a plug-in adds; anything else as it is."""
    return str(from_plugins("weights").get(weights, weights))


def build_encoder(
    name: str,
    weights: str | None = None,
    context: str | None = None,
    attention_scale: str | None = None,
) -> DenseCLIP:
    """Build an encoder by name.

    Args:
        name: any open_clip name of a supported family (``EVA02-B-16``, ``ViT-L-14-336``, ...), or what a plug-in adds
            (``nano``).
        weights: an open_clip pretrained tag, a path to a weight file, what a plug-in adds (``nano-clip``,
            ``nano-declip``), or ``random``.
        context: a :class:`ContextType` value; None: what the weight file says, else ``qk``.
        attention_scale: an :class:`AttentionScale` value; None: what the weight file says, else ``sqrt_d``.

    Raises:
        ConfigError: unknown name, tag, context or scale; no weights.
        CheckpointError: the weight file is missing, corrupt or made for another model.

    >>> encoder = build_encoder("nano", "nano-clip", context="qk")
    >>> encoder.patch_size, encoder.embed_dim, encoder.num_blocks
    (8, 128, 6)
    """
    if not weights:
        check_name(name)
        raise ConfigError(f"encoder '{name}' has no weights: give {known_weights(name)}")
    source = resolve_weights(weights)
    path = source if source != RANDOM and is_weight_file(source) else None
    metadata = read_metadata(path) if path else {}
    model = create_clip(name, tag=None if path or source == RANDOM else source)
    encoder = DenseCLIP(
        model.clip,
        name=name,
        tokenizer=load_tokenizer(name),
        pixel_mean=metadata.get("pixel_mean", model.pixel_mean),
        pixel_std=metadata.get("pixel_std", model.pixel_std),
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
