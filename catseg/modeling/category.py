"""Class aggregation: at each position, the classes attend to each other, guided by their text embeddings.

Shape legend
    B  images    T  classes    p  positions    C  hidden channels    G  guidance channels    H, d  heads

Source: CAT-Seg (CVPR 2024), Sec. 3.2 "Class aggregation": linear attention ("Transformers are RNNs", Eq. 4-6, with
feature map elu + 1) over the classes of each position, then an MLP; queries and keys see ``[cost embedding, text
guidance]``. The published models pad the classes to 256 with one learned token and one learned guidance vector.

All padding tokens of a position are identical and their outputs are thrown away, so linear attention needs one of
them with a multiplicity: ``sum_t K_t V_t^T`` gains ``(256 - T) K_pad V_pad^T`` and ``sum_t K_t`` gains
``(256 - T) K_pad``. They are the same at every position too, so this is one outer product per vocabulary.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from catseg.modeling.spatial import guided_linear

EPSILON = 1e-6  # of the attention's normaliser


class TextGuidance(NamedTuple):
    """What a vocabulary adds at every position.

    Attributes:
        queries, keys: T×1×C of the text guidance, or B×T×1×C where images have classes of their own.
        padding_keys: H×d×1, the padding tokens' mapped keys, summed over all of them.
        padding_keys_values: H×d×d, their key-value outer products, likewise.
    """

    queries: Tensor
    keys: Tensor
    padding_keys: Tensor
    padding_keys_values: Tensor


def linear_attention(queries: Tensor, keys: Tensor, values: Tensor, guidance: TextGuidance) -> Tensor:
    """Linear attention over the second-to-last axis, with the padding tokens' sums added once.

    Args:
        queries, keys: B×p×H×T×d, before the feature map.
        values: B×p×H×T×d.
        guidance: for its sums over padding tokens.

    Returns:
        B×p×H×T×d.
    """
    queries, keys = positive(queries), positive(keys)
    keys_values = keys.transpose(-1, -2) @ values + guidance.padding_keys_values
    key_sums = keys.sum(dim=-2).unsqueeze(-1) + guidance.padding_keys
    return (queries @ keys_values.to(queries.dtype)) / (queries @ key_sums.to(queries.dtype) + EPSILON)


def positive(x: Tensor) -> Tensor:
    """The feature map ``elu(x) + 1`` of linear attention, x any shape.

    Said as ``exp(min(x, 0)) + max(x, 0)``, which a CPU computes eight times as fast.
    """
    return x.clamp(max=0).exp_() + F.relu(x)


class ClassAggregation(nn.Module):
    """Linear attention over classes and an MLP, at pooled resolution.

    Args:
        hidden_dim: C.
        guidance_dim: G.
        num_heads: H.
        padded_classes: the number of classes that attention is padded to with a learned token; 0: no padding.
        mlp_ratio: width of the MLP over C.
    """

    def __init__(
        self, hidden_dim: int, guidance_dim: int, num_heads: int, padded_classes: int = 256, mlp_ratio: int = 4
    ) -> None:
        super().__init__()
        self.num_heads, self.padded_classes = num_heads, padded_classes
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.query, self.query_guidance = guided_linear(hidden_dim, guidance_dim, hidden_dim)
        self.key, self.key_guidance = guided_linear(hidden_dim, guidance_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, hidden_dim * mlp_ratio)
        self.contract = nn.Linear(hidden_dim * mlp_ratio, hidden_dim)
        if padded_classes:
            self.padding_token = nn.Parameter(torch.zeros(hidden_dim))
            self.padding_guidance = nn.Parameter(torch.zeros(guidance_dim))

    def prepare(self, guidance: Tensor) -> TextGuidance:
        """What is the same at every position, for projected text guidance T×G or B×T×G."""
        queries, keys = self.query_guidance(guidance).unsqueeze(-2), self.key_guidance(guidance).unsqueeze(-2)
        multiplicity = self.padded_classes - guidance.shape[-2]
        if multiplicity <= 0:
            zero = guidance.new_zeros(())
            return TextGuidance(queries, keys, zero, zero)
        token = self.norm1(self.padding_token)
        key = positive(self.key(token) + self.key_guidance(self.padding_guidance))
        key, value = (each.float() if each.dtype != torch.float64 else each for each in (key, self.value(token)))
        key = rearrange(key, "(h d) -> h d 1", h=self.num_heads)
        value = rearrange(value, "(h d) -> h 1 d", h=self.num_heads)
        return TextGuidance(queries, keys, multiplicity * key, multiplicity * key * value)

    def forward(self, x: Tensor, guidance: TextGuidance) -> Tensor:
        """B×T×p×C tokens → the same shape: attention over classes and MLP, each with its residual."""
        normed = self.norm1(x)
        projected = self.query(normed) + guidance.queries, self.key(normed) + guidance.keys, self.value(normed)
        heads = (rearrange(each, "b t p (h d) -> b p h t d", h=self.num_heads) for each in projected)
        x = x + rearrange(linear_attention(*heads, guidance), "b p h t d -> b t p (h d)")
        return x + self.contract(F.relu(self.expand(self.norm2(x))))
