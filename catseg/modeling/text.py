"""Class embeddings: a vocabulary through prompt templates and the encoder's text tower.

Shape legend
    T  classes        P  prompts per class        C  width of the shared image-text space

A vocabulary is encoded when it is first used, not when a model is built, and again only when the text tower's
weights have changed.
"""

from collections.abc import Sequence
from enum import Enum

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from declip.data.class_lists import first_synonym
from declip.models.encoder import DenseCLIP

SCENE_TEMPLATE = "A photo of a {} in the scene"  # CAT-Seg's own


class PromptSet(str, Enum):
    """Which templates a class name is put into."""

    SINGLE = "single"  # one: CAT-Seg's
    NAME = "name"  # one: the bare class name
    IMAGENET = "imagenet"  # the 80 of CLIP's ImageNet evaluation, each a channel of the cost volume

    @property
    def num_prompts(self) -> int:
        """P."""
        return len(OPENAI_IMAGENET_TEMPLATES) if self is PromptSet.IMAGENET else 1

    def fill(self, class_name: str) -> list[str]:
        """The prompts of one class; of synonyms ``a, b`` the first is used."""
        name = first_synonym(class_name)
        if self is PromptSet.IMAGENET:
            return [template(name) for template in OPENAI_IMAGENET_TEMPLATES]
        return [name if self is PromptSet.NAME else SCENE_TEMPLATE.format(name)]


class ClassEmbeddings:
    """Text embeddings of vocabularies, each encoded once while the text tower stays the same.

    Args:
        prompts: the templates.
    """

    def __init__(self, prompts: PromptSet) -> None:
        self.prompts = prompts
        self._tokens: dict[tuple[str, ...], Tensor] = {}
        self._cache: dict[tuple[str, ...], tuple[tuple, Tensor]] = {}

    def __call__(self, encoder: DenseCLIP, class_names: Sequence[str]) -> Tensor:
        """Embeddings T×P×C of a vocabulary, not L2-normalised.

        Where gradients are wanted and the text tower trains they are computed anew, under the caller's autocast;
        otherwise they come from the cache, in the tower's own precision.
        """
        vocabulary = tuple(class_names)
        parameters = encoder.text_parameters()
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            return self._encode(encoder, vocabulary)
        state = tuple((id(p), p._version, p.dtype, p.device) for p in parameters)
        if vocabulary not in self._cache or self._cache[vocabulary][0] != state:
            with torch.no_grad(), torch.autocast(encoder.pixel_mean.device.type, enabled=False):
                self._cache[vocabulary] = (state, self._encode(encoder, vocabulary))
        return self._cache[vocabulary][1]

    def _encode(self, encoder: DenseCLIP, vocabulary: tuple[str, ...]) -> Tensor:
        if vocabulary not in self._tokens:
            prompts = [prompt for name in vocabulary for prompt in self.prompts.fill(name)]
            self._tokens[vocabulary] = encoder.tokenize(prompts)
        tokens = self._tokens[vocabulary].to(encoder.pixel_mean.device)
        return encoder.encode_tokens(tokens).unflatten(0, (len(vocabulary), self.prompts.num_prompts))
