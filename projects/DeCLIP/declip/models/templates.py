"""Prompt templates by name, and what texts may be, for configs and command lines, without torch."""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from itertools import product

from d2host.engine.errors import DataError

LONGEST_TEXT = 2000  # characters: many times what any text tower reads, and tokenizers take squares of it


class Templates(str, Enum):
    """What a class name is put into."""

    IMAGENET = "imagenet"  # the 80 of CLIP's ImageNet evaluation
    PHOTO = "photo"  # "a photo of a ..."
    NAME = "name"  # the name alone
    SINGLE = "single"  # "A photo of a ... in the scene", CAT-Seg's
    DETECTION = "detection"  # the 63 of ViLD, which open-vocabulary detectors use

    @property
    def functions(self) -> Sequence[Callable[[str], str]]:
        """Name → prompt, one function per template.

        >>> [fill("cat") for fill in Templates.SINGLE.functions]
        ['A photo of a cat in the scene']
        """
        if self is Templates.IMAGENET:
            from open_clip import OPENAI_IMAGENET_TEMPLATES

            return OPENAI_IMAGENET_TEMPLATES
        if self is Templates.DETECTION:
            return [partial(_fill, prompt) for prompt in _detection_prompts()]
        one = {"photo": "a photo of a {}", "name": "{}", "single": "A photo of a {} in the scene"}
        return [one[self.value].format]

    @property
    def num_prompts(self) -> int:
        """How many prompts a name gives."""
        return len(self.functions)


def _detection_prompts() -> list[str]:
    """ViLD's (ICLR 2022), as CLIPSelf's F-ViT words them; ``@`` is the article of the name ``{}``."""
    either, looks = ("@", "the"), ("nice", "cool", "weird", "small", "large", "clean", "dirty")
    flaws = ("low resolution", "cropped", "close-up", "jpeg corrupted", "blurry", "pixelated", "black and white")
    patterns: list[tuple[str, Sequence[str], Sequence[str]]] = [
        ("There is {0} {1} in the scene.", either, ("",)),
        ("This is a photo of {0} {1} in the scene.", (*either, "one"), ("",)),
        ("itap of {0} {1}.", ("@", "my", "the"), ("",)),
        ("This is a photo of {0} {1}.", ("@", "my", "the", "one", "many"), ("",)),
        ("This is a {2} photo of {0} {1}.", either, ("good", "bad")),
        ("This is a photo of {0} {2} {1}.", ("a", "the"), looks),
        ("This is a {2} photo of {0} {1}.", either, ("bright", "dark")),
        ("This is a photo of {0} hard to see {1}.", ("a", "the"), ("",)),
        ("This is a {2} photo of {0} {1}.", either, flaws),
        ("This is {0} {2} {1}.", ("a", "the"), ("plastic", "toy", "plushie", "cartoon")),
        ("This is {0} embroidered {1}.", ("an", "the"), ("",)),
        ("This is a painting of {0} {1}.", ("the", "a"), ("",)),
    ]
    return [
        pattern.format(article, "{}", word)
        for pattern, articles, words in patterns
        for word, article in product(words, articles)
    ]


def _fill(prompt: str, name: str) -> str:
    name = name.lower().replace("_", " ").replace("/", " or ").rstrip(".")
    return prompt.replace("@", "an" if name[:1] in tuple("aeiou") else "a").format(name)


def check_texts(texts: Iterable[str], kind: str = "texts") -> list[str]:
    """Texts as a list.

    Args:
        texts: one or more.
        kind: what messages call them.

    Raises:
        DataError: they are a single string, none at all, or one of them is no string, blank, no valid Unicode, or
            longer than :data:`LONGEST_TEXT`.

    >>> check_texts("grass", "class names")
    Traceback (most recent call last):
    d2host.engine.errors.DataError: class names are a list of strings, not the string 'grass': put it into brackets
    """
    if isinstance(texts, str):
        raise DataError(f"{kind} are a list of strings, not the string {texts[:80]!r}: put it into brackets")
    if not isinstance(texts, Iterable):
        raise DataError(f"{kind} are a list of strings, not {type(texts).__name__}: give a list")
    listed = list(texts)
    if not listed:
        raise DataError(f"there are no {kind}: give one at least")
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(f"{kind} are strings, but number {index} is of type {type(text).__name__}: give strings")
        if not text.strip():
            raise DataError(f"one of the {kind}, number {index}, is empty: leave it out or fill it")
        if len(text) > LONGEST_TEXT:
            raise DataError(
                f"one of the {kind}, number {index} ({text[:40]!r}...), has {len(text)} characters: give at most "
                f"{LONGEST_TEXT}, no text tower reads more"
            )
        if not text.isascii() and text.encode(errors="ignore").decode() != text:
            raise DataError(f"one of the {kind}, number {index} ({text[:40]!r}), is no valid Unicode: type it again")
    return listed
