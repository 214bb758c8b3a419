"""Prompt templates by name, for configs and command lines, without torch."""

from collections.abc import Callable, Sequence
from enum import Enum


class Templates(str, Enum):
    """What a class name is put into."""

    IMAGENET = "imagenet"  # the 80 of CLIP's ImageNet evaluation
    PHOTO = "photo"  # "a photo of a ..."
    NAME = "name"  # the name alone
    SINGLE = "single"  # "A photo of a ... in the scene", CAT-Seg's

    @property
    def functions(self) -> Sequence[Callable[[str], str]]:
        """Name → prompt, one function per template.

        >>> [fill("cat") for fill in Templates.SINGLE.functions]
        ['A photo of a cat in the scene']
        """
        if self is Templates.IMAGENET:
            from open_clip import OPENAI_IMAGENET_TEMPLATES

            return OPENAI_IMAGENET_TEMPLATES
        one = {"photo": "a photo of a {}", "name": "{}", "single": "A photo of a {} in the scene"}
        return [one[self.value].format]

    @property
    def num_prompts(self) -> int:
        """How many prompts a name gives."""
        return len(self.functions)
