"""CAT-Seg's cost aggregation: from cosine similarities to segmentation logits.

Shape legend
    B     images                 T     classes            P     prompts per class
    h, w  token grid (N = h*w)   C     hidden channels    E     width of the shared image-text space

Source: CAT-Seg (CVPR 2024), Sec. 3: the cost volume (cosine between every token and every class) is embedded by a
7×7 convolution, refined by alternating spatial and class aggregation, and decoded to four times the resolution.

One layout throughout: tokens B×T×N×C, channels last. Images go together as far as a chunk holds all their tokens. The
tokens of a larger image go through the stages that treat classes independently in chunks of classes, and through the
one that treats positions independently in chunks of positions, so that the tokens themselves are the only tensor that
grows with the vocabulary. What a chunk holds follows from the device (:mod:`catseg.modeling.chunks`).
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from catseg.modeling.category import ClassAggregation
from catseg.modeling.chunks import CACHED, Chunks, needs_recomputation, numbers_at_once
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

    def forward(self, x: Tensor, appearance: Tensor, text: Tensor, grid: tuple[int, int], chunks: Chunks) -> Tensor:
        """Tokens B×T×N×C → the same shape: ``x = spatial(x)``, then ``x + up(category(pool(x)))``.

        Args:
            x: tokens in raster order.
            appearance: B×N×G projected appearance guidance.
            text: T×G projected text guidance, or B×T×G where images have classes of their own.
            grid: (h, w).
            chunks: how tokens go through the two stages.
        """
        spatial, category = fused_form(self.spatial), fused_form(self.category)
        x = chunks.run(partial(spatial, guidance=spatial.prepare(appearance, grid)), x, dim=1)
        category = partial(category, guidance=category.prepare(text))
        pooling = self.train_pooling if self.training else self.test_pooling
        if pooling == 1:
            return chunks.run(lambda piece: piece + category(piece), x, dim=2)
        pooled = F.avg_pool2d(rearrange(x, "b t (h w) c -> (b t) c h w", h=grid[0]), pooling)
        batch, size = len(x), pooled.shape[-2:]
        pooled = chunks.run(category, rearrange(pooled, "(b t) c h w -> b t (h w) c", b=batch), dim=2)
        pooled = rearrange(pooled, "b t (h w) c -> (b t) c h w", h=size[0])
        upsampled = F.interpolate(pooled, size=grid, mode="bilinear", align_corners=True)
        return x + rearrange(upsampled, "(b t) c h w -> b t (h w) c", b=batch)


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
        token_chunk: tokens processed at once; None: as many as suit the device.
        recompute: in training, recompute each chunk in the backward pass instead of storing its activations; None:
            where they would not fit the device.
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
        token_chunk: int | None = None,
        recompute: bool | None = None,
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
        device, channels = image_features.device, self.embed.out_channels
        aggregated = self.aggregated(len(text_features))
        tokens = aggregated * image_features[0, 0].numel()  # of an image
        recompute = self.recompute
        if recompute is None:
            recompute = needs_recomputation(device, len(image_features) * tokens * channels)
        chunks = Chunks(
            self.token_chunk or max(numbers_at_once(device, CACHED) // channels, 1),
            recompute,
            overwrite=not torch.is_grad_enabled() and not observed(self),  # what a hook was shown stays as it was
        )
        appearance = F.relu(self.appearance_projection(image_features))
        guidance = [
            F.relu(projection(g)) for projection, g in zip(self.decoder_projections, decoder_guidance, strict=True)
        ]
        kept = [text_features.new_empty(0, dtype=torch.long)] * len(image_features) if kept is None else kept
        alone = any(len(classes) > aggregated for classes in kept)  # images then differ in how many they have
        together = 1 if alone else max(chunks.tokens // tokens, 1)
        groups = (each.split(together) for each in (image_features, appearance, *guidance))
        named = [kept[first : first + together] for first in range(0, len(kept), together)]
        logits = [
            self.aggregate(features, text_features, classes, appearance, guidance, chunks)
            for classes, features, appearance, *guidance in zip(named, *groups, strict=True)
        ]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def aggregated(self, num_classes: int) -> int:
        """How many classes of a vocabulary are aggregated."""
        return num_classes if self.aggregate_all or not self.padded_classes else min(num_classes, self.padded_classes)

    def aggregate(
        self,
        image_features: Tensor,
        text_features: Tensor,
        kept: Sequence[Tensor],
        appearance: Tensor,
        decoder_guidance: Sequence[Tensor],
        chunks: Chunks,
    ) -> Tensor:
        """Logits of images whose tokens are held together; arguments as of :meth:`forward`, guidance projected."""
        batch, grid, num_classes = len(image_features), tuple(image_features.shape[-2:]), len(text_features)
        full = torch.float64 if image_features.dtype == torch.float64 else torch.float32
        with torch.autocast(image_features.device.type, enabled=False):
            cost = cost_volume(image_features.to(full), text_features.to(full))
        text = F.relu(self.text_projection(F.normalize(text_features.mean(dim=1), dim=-1)))
        selected, count = None, max(self.aggregated(num_classes), *map(len, kept))
        if count < num_classes:
            similarity = cost.detach().amax(dim=(2, 3, 4))  # the highest at any token
            for row, classes in zip(similarity, kept, strict=True):
                row.index_fill_(0, classes, math.inf)
            selected = similarity.topk(count, sorted=False).indices
            cost, text = cost[torch.arange(batch, device=cost.device)[:, None], selected], text[selected]
        cost = rearrange(cost, "b t p h w -> (b t) p h w").contiguous(memory_format=torch.channels_last)
        x = rearrange(self.embed(cost), "(b t) c h w -> b t (h w) c", b=batch)
        x = x.to(full)  # the residual stream keeps its precision under autocast
        appearance = rearrange(appearance, "b g h w -> b (h w) g")
        for layer in self.layers:
            x = layer(x, appearance, text, grid, chunks)
        decoder = fused_form(self.decoder)
        decode = partial(decoder, guidance=decoder.prepare(tuple(decoder_guidance)), grid=grid)
        logits = Chunks(chunks.tokens // 2, chunks.recompute).run(decode, x, dim=1)
        if selected is None:
            return logits
        every = logits.new_full((batch, num_classes, *logits.shape[2:]), UNSELECTED_LOGIT)
        return every.scatter(1, selected[..., None, None].expand_as(logits), logits)
