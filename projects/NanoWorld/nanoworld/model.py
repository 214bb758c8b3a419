"""nano-CLIP: a vision transformer and a text transformer small enough to train on a laptop.

Both are open_clip's own classes. The text tower reads whole words of a small lexicon, and every other word as two
of a few hash buckets, instead of byte pairs, so that its embedding table does not outweigh everything else.
"""

import re
import zlib

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from nanoworld.vocabulary import COLORS, SHAPES, STUFF

NANO_NAME, NANO_12_NAME = "nano", "nano-clip-12"
CONTEXT_LENGTH = 24
BUCKETS = 251  # an unknown word is two of them, so that few words share both
FUNCTION_WORDS = (
    "a",
    "an",
    "and",
    "the",
    "photo",
    "picture",
    "of",
    "in",
    "on",
    "with",
    "scene",
    "some",
    "there",
    "is",
    "are",
)


class NanoTokenizer:
    """Words → ids: 0 pads, 1 starts, then come words and hash buckets, and the highest id ends the text."""

    def __init__(self, words: tuple[str, ...], context_length: int = CONTEXT_LENGTH) -> None:
        self.ids = {word: index for index, word in enumerate(dict.fromkeys(words), start=2)}
        self.buckets = 2 + len(self.ids)
        self.start, self.end = 1, self.buckets + BUCKETS
        self.vocab_size = self.end + 1
        self.context_length = context_length

    def __call__(self, texts: list[str]) -> Tensor:
        """N texts → N×context_length int64; longer texts are cut, their end kept."""
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            words = re.findall(r"[a-z0-9]+", text.lower())
            pieces = [piece for word in words for piece in self._pieces(word)]
            ids = [self.start, *pieces[: self.context_length - 2], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _pieces(self, word: str) -> list[int]:
        if word in self.ids:
            return [self.ids[word]]
        code = zlib.crc32(word.encode())
        return [self.buckets + code % BUCKETS, self.buckets + code // BUCKETS % BUCKETS]


def nano_tokenizer() -> NanoTokenizer:
    """The tokenizer of nano-CLIP."""
    return NanoTokenizer((*FUNCTION_WORDS, *STUFF, *COLORS, *SHAPES))


def create_nano_clip(layers: int = 6, mlp_ratio: float = 4.0) -> CLIP:
    """nano-CLIP with random weights: 128-px images, 8-px patches, blocks of width 128; 128 shared channels.

    nano-CLIP-12 has twice the blocks, with feed-forward layers of half the width.
    """
    tokenizer = nano_tokenizer()
    clip = CLIP(
        embed_dim=128,
        vision_cfg=CLIPVisionCfg(
            image_size=128, patch_size=8, width=128, layers=layers, head_width=32, mlp_ratio=mlp_ratio
        ),
        text_cfg=CLIPTextCfg(
            context_length=CONTEXT_LENGTH, vocab_size=tokenizer.vocab_size, width=96, heads=4, layers=2
        ),
    )
    _let_words_outweigh_positions(clip, tokenizer)
    return clip


@torch.no_grad()
def _let_words_outweigh_positions(clip: CLIP, tokenizer: NanoTokenizer) -> None:
    """Start the text tower where different words give different embeddings.

    A text is read at its end, whose own token and position are the same for every text and drown the words in
    open_clip's initialisation: random embeddings of all classes then have cosines above 0.9, and training spends its
    first hundreds of iterations pulling them apart.
    """
    nn.init.normal_(clip.token_embedding.weight, std=0.5)
    clip.token_embedding.weight[[tokenizer.start, tokenizer.end]] = 0
    nn.init.normal_(clip.positional_embedding, std=0.001)
