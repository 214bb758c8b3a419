"""CAT-Seg's cost aggregation: from cosine similarities to segmentation logits.

Shape legend
    B     images                 T     classes            P     prompts per class
    h, w  token grid (N = h*w)   C     hidden channels    E     width of the shared image-text space

Source: CAT-Seg (CVPR 2024), Sec. 3: the cost volume (cosine between every token and every class) is embedded by a
7×7 convolution, refined by alternating spatial and class aggregation, and decoded to four times the resolution.

One layout throughout: tokens T×N×C of one image, channels last. The stages that treat classes independently run in
chunks of classes, the stage that treats positions independently in chunks of positions, so the tokens themselves
are the only tensor that grows with the vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from catseg.modeling.category import ClassAggregation
from catseg.modeling.decoder import Decoder, GuidedUpsample, logit_layer
from catseg.modeling.fused import fused_form, observed
from catseg.modeling.spatial import GuidedSwinBlock, SpatialAggregation

UNSELECTED_LOGIT = -100.0  # of classes beyond the padded number that are not aggregated (public CAT-Seg)


def cost_volume(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine similarity of every token with every class prompt.

    Args:
        image_features: B×E×h×w.
        text_features: T×P×E.

    Returns:
        B×T×P×h×w in [-1, 1].
    """
    image_features = F.normalize(image_features, dim=1)
    text_features = F.normalize(text_features, dim=-1)
    return torch.einsum("behw,tpe->btphw", image_features, text_features)


def in_chunks(
    stage: Callable[[Tensor], Tensor], x: Tensor, size: int, dim: int, recompute: bool, overwrite: bool = False
) -> Tensor:
    """``stage`` of slices of ``x`` along ``dim``, ``size`` (at least one) at a time, joined.

    With gradients, ``recompute`` keeps only each slice's input for the backward pass. With ``overwrite`` (not for
    gradients), results of the same shape as their slice are written over ``x``, so no second copy exists.
    """
    slices = x.split(max(size, 1), dim)
    if torch.is_grad_enabled() and recompute:
        return torch.cat([checkpoint(stage, piece, use_reentrant=False) for piece in slices], dim)
    if not overwrite:
        return torch.cat([stage(piece) for piece in slices], dim)
    outputs = []
    for piece in slices:
        output = stage(piece)
        outputs.append(piece.copy_(output) if output.shape == piece.shape else output)
    return x if outputs[0].shape == slices[0].shape else torch.cat(outputs, dim)


class AggregatorLayer(nn.Module):
    """Spatial aggregation, then class aggregation at pooled resolution.

    Args:
        hidden_dim: C.
        guidance_dims: channels of the projected appearance and text guidance.
        num_heads: attention heads of both stages.
        window_size: see :class:`SpatialAggregation`.
        padded_classes: see :class:`ClassAggregation`.
        pooling_size: (training, evaluation) average pooling before class aggregation, tokens.
    """

    def __init__(
        self,
        hidden_dim: int,
        guidance_dims: tuple[int, int],
        num_heads: int,
        window_size: int,
        padded_classes: int,
        pooling_size: tuple[int, int],
    ) -> None:
        super().__init__()
        appearance_dim, text_dim = guidance_dims
        blocks = (GuidedSwinBlock(hidden_dim, appearance_dim, num_heads) for _ in range(2))
        self.spatial = SpatialAggregation(nn.LayerNorm(appearance_dim), *blocks, window_size)
        self.category = ClassAggregation(hidden_dim, text_dim, num_heads, padded_classes)
        self.train_pooling, self.test_pooling = pooling_size

    def forward(
        self,
        x: Tensor,
        appearance: Tensor,
        text: Tensor,
        grid: tuple[int, int],
        token_chunk: int,
        recompute: bool,
        overwrite: bool = False,
    ) -> Tensor:
        """Tokens T×N×C of one image → the same shape: ``x = spatial(x)``, then ``x + up(category(pool(x)))``.

        Args:
            x: tokens in raster order.
            appearance: N×G projected appearance guidance.
            text: T×G projected text guidance.
            grid: (h, w).
            token_chunk: tokens processed at once.
            recompute: with gradients, recompute each chunk in the backward pass instead of storing its activations.
            overwrite: without gradients, write results over ``x``.
        """
        spatial, category = fused_form(self.spatial), fused_form(self.category)
        spatial = partial(spatial, guidance=spatial.prepare(appearance, grid))
        x = in_chunks(spatial, x, token_chunk // x.shape[1], 0, recompute, overwrite)
        category, positions = partial(category, guidance=category.prepare(text)), token_chunk // len(x)
        pooling = self.train_pooling if self.training else self.test_pooling
        if pooling == 1:
            return in_chunks(lambda piece: piece + category(piece), x, positions, 1, recompute, overwrite)
        pooled = F.avg_pool2d(rearrange(x, "t (h w) c -> t c h w", h=grid[0]), pooling)
        size = pooled.shape[-2:]
        pooled = in_chunks(category, rearrange(pooled, "t c h w -> t (h w) c"), positions, 1, recompute, overwrite)
        pooled = rearrange(pooled, "t (h w) c -> t c h w", h=size[0])
        upsampled = F.interpolate(pooled, size=grid, mode="bilinear", align_corners=True)
        return x + rearrange(upsampled, "t c h w -> t (h w) c")


class Aggregator(nn.Module):
    """Cost volume in, logits per class out; any vocabulary, any grid.

    >>> aggregator = Aggregator(embed_dim=32, hidden_dim=16, decoder_guidance_dims=((8, 4), (8, 2)), num_heads=2)
    >>> guidance = torch.randn(1, 8, 12, 12), torch.randn(1, 8, 24, 24)
    >>> aggregator(torch.randn(1, 32, 6, 6), torch.randn(5, 1, 32), guidance).shape  # of 5 classes
    torch.Size([1, 5, 24, 24])

    Args:
        embed_dim: E.
        num_prompts: P, input channels of the cost embedding.
        hidden_dim: C.
        num_layers: aggregation layers.
        num_heads: attention heads.
        window_size: window of the spatial aggregation, tokens.
        pooling_size: (training, evaluation) average pooling before class aggregation, tokens.
        padded_classes: class attention is padded to this many classes. Larger vocabularies are cut to that many,
            image by image by their highest similarity, unless ``aggregate_all``; classes to keep come first, and
            are all kept where there are more of them.
        aggregate_all: aggregate every class of vocabularies larger than ``padded_classes``.
        guidance_dims: channels of the projected appearance and text guidance.
        decoder_dims: channels after each decoder stage.
        decoder_guidance_dims: (channels in, projected channels) of each decoder stage's guidance.
        token_chunk: tokens processed at once (a few MB, so that a chunk stays in the CPU's cache; raise it on GPUs).
        recompute: in training, recompute each chunk in the backward pass instead of storing its activations.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_prompts: int = 1,
        hidden_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        window_size: int = 12,
        pooling_size: tuple[int, int] = (2, 1),
        padded_classes: int = 256,
        aggregate_all: bool = False,
        guidance_dims: tuple[int, int] = (128, 128),
        decoder_dims: tuple[int, int] = (64, 32),
        decoder_guidance_dims: tuple[tuple[int, int], tuple[int, int]] = ((256, 32), (128, 16)),
        token_chunk: int = 6912,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.padded_classes, self.aggregate_all = padded_classes, aggregate_all
        self.token_chunk, self.recompute = token_chunk, recompute
        self.embed = nn.Conv2d(num_prompts, hidden_dim, kernel_size=7, padding=3)
        self.appearance_projection = nn.Conv2d(embed_dim, guidance_dims[0], kernel_size=3, padding=1)
        self.text_projection = nn.Linear(embed_dim, guidance_dims[1])
        self.decoder_projections = nn.ModuleList(
            nn.Conv2d(channels, projected, kernel_size=3, padding=1) for channels, projected in decoder_guidance_dims
        )
        attention = (num_heads, window_size, padded_classes)
        self.layers = nn.ModuleList(
            AggregatorLayer(hidden_dim, guidance_dims, *attention, pooling_size) for _ in range(num_layers)
        )
        self.decoder = Decoder(
            GuidedUpsample(hidden_dim, decoder_dims[0], decoder_guidance_dims[0][1]),
            GuidedUpsample(decoder_dims[0], decoder_dims[1], decoder_guidance_dims[1][1]),
            logit_layer(decoder_dims[1]),
        )

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        decoder_guidance: Sequence[Tensor],
        kept: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Logits of every class.

        Args:
            image_features: B×E×h×w dense image features.
            text_features: T×P×E class embeddings, one vocabulary for all images.
            decoder_guidance: B×G1×2h×2w and B×G2×4h×4w features of intermediate encoder blocks.
            kept: of each image, classes (int64) that are aggregated in any case, such as those its labels name.

        Returns:
            B×T×4h×4w logits, in the precision of autocast where it is enabled.
        """
        appearance = F.relu(self.appearance_projection(image_features))
        guidance = [
            F.relu(projection(g)) for projection, g in zip(self.decoder_projections, decoder_guidance, strict=True)
        ]
        kept = [None] * len(image_features) if kept is None else kept
        images = zip(image_features, kept, appearance, *guidance, strict=True)
        return torch.stack([self.aggregate_image(features, text_features, *rest) for features, *rest in images])

    def aggregate_image(
        self, image: Tensor, text_features: Tensor, kept: Tensor | None, appearance: Tensor, *decoder_guidance: Tensor
    ) -> Tensor:
        """Logits T×4h×4w of one image: E×h×w features, T×P×E text features, projected guidance of the image."""
        grid, num_classes = tuple(image.shape[-2:]), len(text_features)
        full = torch.float64 if image.dtype == torch.float64 else torch.float32
        with torch.autocast(image.device.type, enabled=False):
            cost = cost_volume(image[None].to(full), text_features.to(full))[0]
        selected = None
        if not self.aggregate_all and 0 < self.padded_classes < num_classes:
            similarity, count = cost.flatten(1).amax(dim=1), self.padded_classes  # the highest at any token
            if kept is not None:
                similarity, count = similarity.index_fill(0, kept, math.inf), max(count, len(kept))
            selected = similarity.topk(count, sorted=False).indices
            cost, text_features = cost[selected], text_features[selected]
        x = self.embed(cost.contiguous(memory_format=torch.channels_last))
        x = rearrange(x, "t c h w -> t (h w) c").to(full)  # the residual stream keeps its precision under autocast
        text = F.relu(self.text_projection(F.normalize(text_features.mean(dim=1), dim=-1)))
        appearance = rearrange(appearance, "g h w -> (h w) g")
        overwrite = not torch.is_grad_enabled() and not observed(self)  # what a hook was shown stays as it was
        for layer in self.layers:
            x = layer(x, appearance, text, grid, self.token_chunk, self.recompute, overwrite)
        decoder = fused_form(self.decoder)
        decode = partial(decoder, guidance=decoder.prepare(tuple(g[None] for g in decoder_guidance)), grid=grid)
        logits = in_chunks(decode, x, self.token_chunk // x.shape[1] // 2, 0, self.recompute)
        if selected is None:
            return logits
        return logits.new_full((num_classes, *logits.shape[1:]), UNSELECTED_LOGIT).index_copy(0, selected, logits)
