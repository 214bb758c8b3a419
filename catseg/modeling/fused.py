"""Faster forms of the aggregation's modules, equal in result.

What cannot be said in layers is said here: a LayerNorm's scale and shift go into the linear map that follows it, three
projections become one, an up-convolution and the convolution after it become one transposed convolution. Weights are
folded when a form is made, once per image and layer, so nothing is cached and nothing can go stale. Forms of attention
serve inference; the decoder's, which halves its arithmetic, serves training, too: gradients reach its ordinary layers.
:func:`fused_form` alone decides where a form runs.

Shape legend
    B  images    T  classes    N  tokens    p  positions    C, G  hidden and guidance channels    H, d  heads
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from catseg.modeling.category import ClassAggregation, TextGuidance, linear_attention
from catseg.modeling.decoder import Decoder, GuidedUpsample
from catseg.modeling.spatial import AppearanceGuidance, GuidedSwinBlock, SpatialAggregation
from catseg.modeling.window_attention import window_attention

LAYERS = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm)
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
STAGES = (SpatialAggregation, GuidedSwinBlock, ClassAggregation, Decoder, GuidedUpsample)


def fused_form(stage: nn.Module) -> nn.Module:
    """The faster form of a stage, or the stage itself where somebody could tell the difference.

    That is where the stage is :func:`observed`, where a module inside is of another class than its own (a wrapped
    layer, a parametrised one) and, but for the decoder, where gradients are wanted.

    Args:
        stage: a :class:`SpatialAggregation`, :class:`ClassAggregation` or :class:`Decoder`.
    """
    if torch.is_grad_enabled() and not isinstance(stage, Decoder):
        return stage
    if observed(stage) or any(type(module) not in LAYERS + STAGES for module in stage.modules()):
        return stage
    match stage:
        case SpatialAggregation():
            blocks = FusedSwinBlock(stage.block), FusedSwinBlock(stage.shifted_block)
            return SpatialAggregation(stage.guidance_norm, *blocks, stage.window_size)
        case ClassAggregation():
            return FusedClassAggregation(stage)
        case Decoder():
            return Decoder(FusedUpsample(stage.stage1), FusedUpsample(stage.stage2), stage.classify)
    return stage


def observed(module: nn.Module) -> bool:
    """Whether somebody has changed what calling a module, or one inside, does: by a hook or a ``forward`` of its own.

    Hooks are forward or backward ones, on the module or on all modules at once.
    """
    of_all_modules = any(getattr(nn.modules.module, f"_global{hooks}") for hooks in HOOKS)
    return of_all_modules or any(
        "forward" in vars(each) or any(getattr(each, hooks) for hooks in HOOKS) for each in module.modules()
    )


class Affine(NamedTuple):
    """A linear map ``x @ weight.T + bias``; weight O×I, bias O (or anything that broadcasts to the output)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The map of the last axis of ``x``."""
        return F.linear(x, self.weight, self.bias)

    def to(self, dtype: torch.dtype) -> "Affine":
        """The same map in another precision."""
        return Affine(self.weight.to(dtype), self.bias.to(dtype))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The precision of matrix products on ``x``: autocast's where it is enabled, else that of ``x``."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def standardize(x: Tensor, dtype: torch.dtype) -> Tensor:
    """LayerNorm over the last axis without its affine part, in ``dtype``."""
    return F.layer_norm(x.to(dtype), x.shape[-1:])


def after_norm(norm: nn.LayerNorm, *layers: nn.Linear, scales: tuple[float, ...] = ()) -> Affine:
    """Linear layers side by side, with the LayerNorm before them folded in.

    ``W (gamma * x + beta) + b = (W * gamma) x + (W beta + b)``, times a scale per layer.
    """
    scales = scales or (1.0,) * len(layers)
    weight = torch.cat([scale * layer.weight for scale, layer in zip(scales, layers, strict=True)])
    bias = torch.cat([scale * layer.bias for scale, layer in zip(scales, layers, strict=True)])
    return Affine(weight * norm.weight, bias + weight @ norm.bias)


def upsample_then_convolve(up: nn.ConvTranspose2d, kernel: Tensor) -> Tensor:
    """``ConvTranspose2d(2, stride 2)`` and the 3×3 convolution after it as one transposed kernel.

    With U the up-convolution's kernel and K the convolution's, output pixel ``2i + t - 1`` receives input pixel i
    through ``sum U[a] K[dy]`` over ``a - dy + 2 = t``: a full correlation of the two kernels.

    Args:
        up: kernel I×M×2×2.
        kernel: O×M×3×3.

    Returns:
        I×O×4×4, for ``conv_transpose2d(..., stride=2, padding=1)``. The bias of ``up`` is not included: under zero
        padding its contribution depends on the position.
    """
    return F.conv2d(up.weight, kernel, padding=2)


class FusedSwinBlock(nn.Module):
    """:class:`GuidedSwinBlock` with one projection for queries, keys and values, norms and 1/sqrt(d) folded in."""

    def __init__(self, block: GuidedSwinBlock) -> None:
        super().__init__()
        self.plain, self.num_heads = block, block.num_heads
        self.scale = (block.value.in_features // block.num_heads) ** -0.5
        self.projections = after_norm(block.norm1, block.query, block.key, block.value, scales=(self.scale, 1.0, 1.0))
        self.expand = after_norm(block.norm2, block.expand)

    def prepare(self, guidance: Tensor, groups: tuple[tuple[int, int], ...]) -> AppearanceGuidance:
        """As :meth:`GuidedSwinBlock.prepare`, 1/sqrt(d) and the projections' bias included."""
        dtype, (queries, keys, _) = compute_dtype(guidance), self.plain.prepare(guidance, groups)
        query_bias, key_bias, _ = self.projections.bias.chunk(3)
        return AppearanceGuidance((self.scale * queries + query_bias).to(dtype), (keys + key_bias).to(dtype), groups)

    def forward(self, x: Tensor, guidance: AppearanceGuidance) -> Tensor:
        """B×T×N×C tokens in window order → the same shape."""
        dtype, block = guidance.queries.dtype, self.plain
        value_bias = self.projections.bias.chunk(3)[2].to(dtype).expand_as(guidance.queries)
        bias = torch.cat([guidance.queries, guidance.keys, value_bias], dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            projected = F.linear(standardize(x, dtype), self.projections.weight.to(dtype)).add_(bias)
            attended = window_attention(*projected.chunk(3, dim=-1), guidance.groups, self.num_heads, scale=1.0)
            project = Affine(block.project.weight, block.project.bias).to(dtype)
            contract = Affine(block.contract.weight, block.contract.bias).to(dtype)
            x = x + project(attended)
            return x + contract(F.gelu(self.expand.to(dtype)(standardize(x, dtype))))


class FusedClassAggregation(nn.Module):
    """:class:`ClassAggregation` with one projection for queries, keys and values, norms folded in."""

    def __init__(self, plain: ClassAggregation) -> None:
        super().__init__()
        self.plain, self.num_heads = plain, plain.num_heads
        self.projections = after_norm(plain.norm1, plain.query, plain.key, plain.value)
        self.expand = after_norm(plain.norm2, plain.expand)

    def prepare(self, guidance: Tensor) -> TextGuidance:
        """As :meth:`ClassAggregation.prepare`."""
        return self.plain.prepare(guidance)

    def forward(self, x: Tensor, guidance: TextGuidance) -> Tensor:
        """B×T×p×C tokens → the same shape."""
        dtype, plain = compute_dtype(x), self.plain
        text = F.pad(torch.cat([guidance.queries, guidance.keys], dim=-1), (0, x.shape[-1]))
        with torch.autocast(x.device.type, enabled=False):
            bias = (text + self.projections.bias).to(dtype)
            projected = F.linear(standardize(x, dtype), self.projections.weight.to(dtype)).add_(bias)
            heads = rearrange(projected, "b t p (three h d) -> three b p h t d", three=3, h=self.num_heads)
            x = x + rearrange(linear_attention(*heads, guidance), "b p h t d -> b t p (h d)")
            contract = Affine(plain.contract.weight, plain.contract.bias).to(dtype)
            return x + contract(self.expand.to(dtype)(standardize(x, dtype)).relu_())


class FusedUpsample(nn.Module):
    """:class:`GuidedUpsample` with the up-convolution and the convolution after it as one."""

    def __init__(self, stage: GuidedUpsample) -> None:
        super().__init__()
        self.plain = stage
        self.kernel = upsample_then_convolve(stage.up, stage.conv1.weight)  # C×O×4×4

    def prepare(self, guidance: Tensor) -> Tensor:
        """As :meth:`GuidedUpsample.prepare`, with what the up-convolution's bias turns into."""
        bias = self.plain.up.bias.view(1, -1, 1, 1).expand(-1, -1, *guidance.shape[-2:])
        return self.plain.prepare(guidance) + self.plain.conv1(bias)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(B*T)×C×h×w (channels last) → (B*T)×O×2h×2w."""
        dtype, plain = compute_dtype(x), self.plain
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv_transpose2d(x.to(dtype), self.kernel.to(dtype), stride=2, padding=1)
            x = x.unflatten(0, (len(guidance), -1)).add_(guidance.to(dtype).unsqueeze(1)).flatten(0, 1)
            x = self._norm(plain.norm1, x).relu_()
            return self._norm(plain.norm2, F.conv2d(x, plain.conv2.weight.to(dtype), padding=1)).relu_()

    @staticmethod
    def _norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
        return F.group_norm(x, norm.num_groups, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
