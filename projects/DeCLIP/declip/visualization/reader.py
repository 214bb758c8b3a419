"""Reading attention off a model while it runs, without changing the model or holding a whole map.

Shape legend
    B  images        L  tokens, prefix (class token, registers) first        H  heads        d  channels per head
    r  rows that are asked for

Libraries' blocks end in one of two functions of torch, whatever they do to queries and keys before (norms, rotary
embedding, projections with additions). A function mode of torch sees the arguments of both on their way: queries and
keys are those of the block itself, for any block, wrapped layers and faster forms included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.overrides import TorchFunctionMode

from d2host.engine.errors import ConfigError
from declip.contexts import ContextType
from declip.models.attention import decoupled_attention
from declip.models.encoder import DenseCLIP
from declip.teachers.foundation import FoundationTeacher

Model = DenseCLIP | FoundationTeacher
Read = TypeVar("Read")
ROWS = 128  # of a map that exist at a time


@dataclass(frozen=True)
class AttentionMap:
    """How strongly each token attends to each other in one block: L×L per head, of which only rows that are asked for
    exist.

    >>> attention = AttentionMap(*torch.randn(2, 1, 3, 10, 8), scale=8**-0.5)
    >>> attention.rows([0, 4]).sum(dim=-1)
    tensor([[[1.0000, 1.0000],
             [1.0000, 1.0000],
             [1.0000, 1.0000]]])

    Attributes:
        queries, keys: B×H×L×d, as they meet.
        scale: factor on their products.
        bias: what is added to these, broadcasts to B×H×L×L; a token is left out where it is bool and False.
    """

    queries: Tensor
    keys: Tensor
    scale: float
    bias: Tensor | None = None

    def rows(self, tokens: Sequence[int] | slice) -> Tensor:
        """How some tokens attend to all, B×H×r×L in float32; each row sums to 1."""
        similarities = self.scale * self.queries[:, :, tokens].float() @ self.keys.float().mT
        if self.bias is not None:
            shape = *self.queries.shape[:3], self.keys.shape[2]
            bias = self.bias.expand(shape)[:, :, tokens]
            masked = bias.dtype == torch.bool
            similarities = similarities.masked_fill(~bias, float("-inf")) if masked else similarities + bias
        return similarities.softmax(dim=-1)

    def received(self, first: int = 0) -> Tensor:
        """The share of attention that each token gets from all tokens from ``first`` on, mean over heads: B×L, sums
        to 1."""
        length = self.queries.shape[2]
        blocks = (slice(start, min(start + ROWS, length)) for start in range(first, length, ROWS))
        return sum(self.rows(block).mean(dim=1).sum(dim=1) for block in blocks) / (length - first)


class AttentionReader(TorchFunctionMode):
    """Hands every attention that is computed in a ``with`` block to a function, as an :class:`AttentionMap`.

    >>> maps = []
    >>> attention = torch.nn.MultiheadAttention(16, num_heads=2, batch_first=True).eval()
    >>> tokens = torch.randn(1, 5, 16)
    >>> with torch.no_grad(), AttentionReader(maps.append):
    ...     _, weights = attention(tokens, tokens, tokens)
    >>> torch.allclose(maps[0].rows(range(5)).mean(dim=1), weights, atol=1e-6)
    True

    Args:
        read: the function, called before the attention is computed.
    """

    def __init__(self, read: Callable[[AttentionMap], object]) -> None:
        super().__init__()
        self.read = read

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.read(_of_heads(*args, **kwargs))
        elif function is F.multi_head_attention_forward:
            self.read(_of_tokens(*args, **kwargs))
        return function(*args, **kwargs)


def _of_heads(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *others, scale: float | None = None, **_
) -> AttentionMap:
    return AttentionMap(query, key, query.shape[-1] ** -0.5 if scale is None else scale, attn_mask)


def _of_tokens(
    query: Tensor, key: Tensor, value: Tensor, width: int, heads: int, weight: Tensor, bias: Tensor, *others, **_
) -> AttentionMap:
    """Of ``nn.MultiheadAttention``, whose tokens L×B×D attend to themselves."""
    queries, keys, _ = rearrange(F.linear(query, weight, bias), "l b (three h d) -> three b h l d", three=3, h=heads)
    return AttentionMap(queries, keys, queries.shape[-1] ** -0.5)


def read_blocks(model: Model, images: Tensor, read: Callable[[AttentionMap], Read]) -> list[Read]:
    """What a function makes of the attention of each block, first to last; an encoder's last block as CLIP has it.

    Args:
        model: an encoder or a teacher, which is put into evaluation mode.
        images: B×3×H×W, normalised.
        read: called once per block.

    Raises:
        ConfigError: blocks attend within windows, or not by torch's functions.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-clip")
    >>> received = read_blocks(encoder, encoder.normalize(torch.zeros(1, 3, 64, 96)), AttentionMap.received)
    >>> len(received), received[0].shape
    (6, torch.Size([1, 97]))
    """
    found: list[Read] = []

    def check_and_read(attention: AttentionMap) -> None:
        if attention.queries.shape[0] != len(images):
            raise ConfigError(
                f"'{model.name}' attends within windows, so that there is no attention over an image to draw: choose "
                "another model, or draw its correlations"
            )
        found.append(read(attention))

    with torch.no_grad(), AttentionReader(check_and_read):
        if isinstance(model, DenseCLIP):
            model.grid(images)
            tokens = model.eval().image_tower.embed(images)
            for index in range(model.num_blocks):
                tokens = model.image_tower.run_block(index, tokens)
        else:
            model(images)
    if len(found) != num_blocks(model):
        raise ConfigError(
            f"attention of '{model.name}' cannot be read ({len(found)} of its {num_blocks(model)} blocks call torch's "
            "attention): choose another model, or leave TIMM_FUSED_ATTN as it is"
        )
    return found


def read_context(encoder: DenseCLIP, images: Tensor, read: Callable[[AttentionMap], Read]) -> list[Read]:
    """What a function makes of the maps that dense features of an encoder come from in its last block.

    One map, two of context ``qk`` (their sum counts), none where the block attends as CLIP has it or not at all.
    """
    found: list[Read] = []
    context = encoder.context
    if isinstance(context, ContextType) and context.decoupled:
        with torch.no_grad():
            tokens, _ = encoder.eval().run_blocks(images)
            projections = encoder.image_tower.last_projections(tokens.x)
            heads = [rearrange(each, "b l (h d) -> b h l d", h=encoder.image_tower.num_heads) for each in projections]
            with AttentionReader(lambda attention: found.append(read(attention))):
                decoupled_attention(*heads, context, encoder.attention_scale)
    return found


def num_blocks(model: Model) -> int:
    """How many transformer blocks a model has."""
    return model.num_blocks if isinstance(model, DenseCLIP) else len(model.model.blocks)


def has_class_token(model: Model) -> bool:
    """Whether a model's first token is a class token."""
    if isinstance(model, DenseCLIP):
        return model.image_tower.num_prefix_tokens > 0
    return getattr(model.model, "cls_token", None) is not None
