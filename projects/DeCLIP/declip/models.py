"""Creating the CLIP models that encoders are built on, by open_clip or, for ``nano``, from open_clip's classes."""

import difflib
from dataclasses import dataclass

import open_clip
from torch import nn

from declip.errors import ConfigError
from declip.nano.model import NANO_NAME, create_nano_clip, nano_tokenizer
from declip.towers.select import FAMILIES


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
    if name == NANO_NAME:
        if tag:
            raise ConfigError(
                f"'{tag}' is neither a weight file nor known for '{name}': give nano-clip, nano-declip, or a path"
            )
        return ClipModel(create_nano_clip(), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    if open_clip.get_model_config(name) is None:
        close = difflib.get_close_matches(name, [NANO_NAME, *open_clip.list_models()], n=4, cutoff=0.5)
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
    return nano_tokenizer() if name == NANO_NAME else _OpenCLIPTokenizer(name)


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
