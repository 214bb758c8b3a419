"""Class aggregation: at each position, the classes attend to each other, guided by their text embeddings.

Shape legend
    T  classes        N  tokens, h * w       C  hidden channels       G  guidance channels       H, d  heads

Source: CAT-Seg (CVPR 2024), Sec. 3.2 "Class aggregation": linear attention ("Transformers are RNNs", Eq. 4-6, with
feature map elu + 1) over the classes of each position, then an MLP. The published models pad the classes to 256
with one learned token and one learned guidance vector.

All padding tokens of a position are identical and their outputs are thrown away, so linear attention needs one of
them with a multiplicity: ``sum_t K_t V_t^T`` gains ``(256 - T) K_pad V_pad^T`` and ``sum_t K_t`` gains
``(256 - T) K_pad``. They are the same at every position too, so this is one outer product per image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg.modeling.folding import Affine, after_norm, compute_dtype, standardize

EPSILON = 1e-6  # of the attention's normaliser


class FoldedClassAttention(NamedTuple):
    """The layer's weights for one vocabulary: norms and text guidance folded in."""

    queries_keys_values: Tensor  # 3C×C
    guidance: Tensor  # T×1×3C, added at every position
    padding_keys: Tensor  # H×d×1, summed over all padding tokens
    padding_keys_values: Tensor  # H×d×d, likewise
    expand: Affine  # 4C×C
    contract: Affine  # C×4C


def linear_attention(
    queries: Tensor, keys: Tensor, values: Tensor, padding_keys: Tensor, padding_keys_values: Tensor
) -> Tensor:
    """Linear attention over the second-to-last axis, with the padding tokens' sums added once.

    Args:
        queries, keys: p×H×T×d, before the feature map.
        values: p×H×T×d.
        padding_keys: H×d×1, sum of the padding tokens' mapped keys.
        padding_keys_values: H×d×d, sum of their key-value outer products.

    Returns:
        p×H×T×d.
    """
    queries, keys = positive(queries), positive(keys)
    keys_values = keys.transpose(-1, -2) @ values + padding_keys_values
    key_sums = keys.sum(dim=-2).unsqueeze(-1) + padding_keys
    return (queries @ keys_values.to(queries.dtype)) / (queries @ key_sums.to(queries.dtype) + EPSILON)


def positive(x: Tensor) -> Tensor:
    """The feature map ``elu(x) + 1`` of linear attention, x any shape."""
    return F.elu(x).add_(1)


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
        self.num_heads = num_heads
        self.padded_classes = padded_classes
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.query = nn.Linear(hidden_dim + guidance_dim, hidden_dim)
        self.key = nn.Linear(hidden_dim + guidance_dim, hidden_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, hidden_dim * mlp_ratio)
        self.contract = nn.Linear(hidden_dim * mlp_ratio, hidden_dim)
        if padded_classes:
            self.padding_token = nn.Parameter(torch.zeros(hidden_dim))
            self.padding_guidance = nn.Parameter(torch.zeros(guidance_dim))

    def for_vocabulary(self, guidance: Tensor):
        """Prepare one vocabulary: the returned function aggregates any number of positions.

        Args:
            guidance: T×G projected text guidance.

        Returns:
            A function from T×N×C tokens to the same shape: attention and MLP with their residuals.
        """
        dtype = compute_dtype(guidance)
        with torch.autocast(guidance.device.type, enabled=False):
            folded = self._fold(guidance if dtype == torch.float64 else guidance.float(), dtype)

        def aggregate(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                x = x + self._attend(standardize(x, dtype), folded)
                return x + folded.contract(folded.expand(standardize(x, dtype)).relu_())

        return aggregate

    def _attend(self, x: Tensor, folded: FoldedClassAttention) -> Tensor:
        """T×p×C normalised tokens → T×p×C attended values."""
        projected = F.linear(x, folded.queries_keys_values).add_(folded.guidance)
        queries, keys, values = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 1, 3, 0, 4)
        attended = linear_attention(queries, keys, values, folded.padding_keys, folded.padding_keys_values)
        return attended.permute(2, 0, 1, 3).flatten(-2)

    def _fold(self, guidance: Tensor, dtype: torch.dtype) -> FoldedClassAttention:
        hidden_dim = self.value.in_features
        split = [hidden_dim, guidance.shape[-1]]
        query_weight, query_guidance = self.query.weight.split(split, dim=1)
        key_weight, key_guidance = self.key.weight.split(split, dim=1)
        cost = after_norm(
            self.norm1,
            torch.cat([query_weight, key_weight, self.value.weight]),
            torch.cat([self.query.bias, self.key.bias, self.value.bias]),
        )
        text = F.linear(guidance, torch.cat([query_guidance, key_guidance]))  # T, 2C
        return FoldedClassAttention(
            cost.weight.to(dtype),
            (F.pad(text, (0, hidden_dim)) + cost.bias).to(dtype).unsqueeze(1),
            *self._padding_sums(len(guidance)),
            after_norm(self.norm2, self.expand.weight, self.expand.bias).to(dtype),
            Affine(self.contract.weight, self.contract.bias).to(dtype),
        )

    def _padding_sums(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """What ``padded_classes - num_classes`` equal tokens add to the sums of keys and of key-value products."""
        multiplicity = self.padded_classes - num_classes
        if multiplicity <= 0:
            zero = self.value.weight.new_zeros(())
            return zero, zero
        token = self.norm1(self.padding_token)
        key = F.elu(self.key(torch.cat([token, self.padding_guidance]))) + 1
        key = key.view(self.num_heads, -1, 1)
        value = self.value(token).view(self.num_heads, 1, -1)
        return multiplicity * key, multiplicity * key * value
