"""The obvious formulation of cost aggregation: the same parameters, none of the savings.

Written for clarity, from the equations: every class carries its own copy of the guidance, the class attention is
really padded, shifted windows are rolled and masked, and every stage sees all classes at once. Tests hold the fast
path against it, benchmarks take it as their baseline; nothing else uses it.

Shape legend: as in :mod:`catseg.modeling.aggregator`; x is the class volume B×C×T×h×w.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg.modeling.aggregator import UNSELECTED_LOGIT, Aggregator
from catseg.modeling.category import EPSILON, ClassAggregation
from catseg.modeling.decoder import Decoder, GuidedUpsample
from catseg.modeling.spatial import GuidedSwinBlock, SpatialAggregation


def aggregate(
    aggregator: Aggregator, image_features: Tensor, text_features: Tensor, decoder_guidance: Sequence[Tensor]
) -> Tensor:
    """Logits B×T×4h×4w of ``aggregator`` for the arguments of its ``forward``."""
    batch, num_classes = len(image_features), len(text_features)
    text_features = text_features.expand(batch, *text_features.shape)
    cost = torch.einsum("behw,btpe->bpthw", F.normalize(image_features, dim=1), F.normalize(text_features, dim=-1))
    selected = None
    if not aggregator.aggregate_all and 0 < aggregator.padded_classes < num_classes:
        selected = cost.amax(dim=(1, 3, 4)).topk(aggregator.padded_classes, dim=1).indices
        cost = torch.stack([volume[:, index] for volume, index in zip(cost, selected, strict=True)])
        text_features = torch.stack([text[index] for text, index in zip(text_features, selected, strict=True)])
    kept = cost.shape[2]
    x = aggregator.embed(cost.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, kept)).transpose(1, 2)
    appearance = F.relu(aggregator.appearance_projection(image_features))
    text = F.relu(aggregator.text_projection(F.normalize(text_features.mean(dim=2), dim=-1)))
    projected = [
        F.relu(projection(guidance))
        for projection, guidance in zip(aggregator.decoder_projections, decoder_guidance, strict=True)
    ]
    for layer in aggregator.layers:
        pooling = layer.train_pooling if layer.training else layer.test_pooling
        x = spatial_aggregation(layer.spatial, x, appearance)
        x = class_aggregation(layer.category, x, text, pooling)
    logits = decode(aggregator.decoder, x, projected)
    if selected is None:
        return logits
    full = logits.new_full((batch, num_classes, *logits.shape[2:]), UNSELECTED_LOGIT)
    return full.scatter(1, selected[..., None, None].expand_as(logits), logits)


def spatial_aggregation(module: SpatialAggregation, x: Tensor, appearance: Tensor) -> Tensor:
    """Two Swin blocks over B×C×T×h×w with appearance B×G×h×w, repeated for every class."""
    batch, _, num_classes, height, width = x.shape
    x = x.permute(0, 2, 3, 4, 1).flatten(0, 1)
    guidance = appearance.permute(0, 2, 3, 1).repeat_interleave(num_classes, dim=0)
    guidance = module.guidance_norm(guidance)
    window = min(module.window_size, height, width)
    shift = module.window_size // 2 if window == module.window_size and window < min(height, width) else 0
    x = swin_block(module.block, x, guidance, window, 0)
    x = swin_block(module.shifted_block, x, guidance, window, shift)
    return x.unflatten(0, (batch, num_classes)).permute(0, 4, 1, 2, 3)


def swin_block(block: GuidedSwinBlock, x: Tensor, guidance: Tensor, window: int, shift: int) -> Tensor:
    """A Swin block with cyclic shift and additive mask, over (B*T)×h×w×C; the window divides the grid."""
    height, width = x.shape[1:3]
    normed = block.norm1(x)
    guided = torch.cat([normed, guidance], dim=-1)
    mask = None
    if shift:
        guided, normed = (torch.roll(tensor, (-shift, -shift), (1, 2)) for tensor in (guided, normed))
        mask = shifted_window_mask(height, width, window, shift, x)
    guided, normed = (partition_windows(tensor, window) for tensor in (guided, normed))
    heads = lambda tensor: tensor.unflatten(-1, (block.num_heads, -1)).transpose(1, 2)  # noqa: E731
    queries, keys, values = (
        heads(joined(block.query, block.query_guidance, guided)),
        heads(joined(block.key, block.key_guidance, guided)),
        heads(block.value(normed)),
    )
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    if mask is not None:
        scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
    attended = (scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(-2)
    attended = merge_windows(block.project(attended), window, height, width)
    x = x + (torch.roll(attended, (shift, shift), (1, 2)) if shift else attended)
    return x + block.contract(F.gelu(block.expand(block.norm2(x))))


def joined(linear: nn.Linear, guidance_linear: nn.Linear, x: Tensor) -> Tensor:
    """One linear map of ``[x, guidance]``, whose matrix is those of the two layers side by side."""
    return F.linear(x, torch.cat([linear.weight, guidance_linear.weight], dim=1), linear.bias)


def partition_windows(x: Tensor, window: int) -> Tensor:
    """B×h×w×C → (B*windows)×window²×C."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`partition_windows`."""
    x = x.unflatten(0, (-1, height // window, width // window)).unflatten(3, (window, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shifted_window_mask(height: int, width: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Additive mask windows×window²×window² that keeps tokens from attending across the cyclic seam."""
    bands = lambda length: torch.bucketize(  # noqa: E731
        torch.arange(length), torch.tensor([length - window, length - shift]), right=True
    )
    bands_of_tokens = bands(height)[:, None] * 3 + bands(width)
    bands_of_windows = partition_windows(bands_of_tokens[None, ..., None], window).squeeze(-1)
    same = bands_of_windows[:, :, None] == bands_of_windows[:, None, :]
    return torch.where(same, 0.0, float("-inf")).to(like)


def class_aggregation(module: ClassAggregation, x: Tensor, text: Tensor, pooling: int) -> Tensor:
    """Class attention over B×C×T×h×w, really padded to ``padded_classes``; text guidance B×T×G."""
    batch, _, num_classes, height, width = x.shape
    pooled = F.avg_pool2d(x.transpose(1, 2).flatten(0, 1), pooling).unflatten(0, (batch, num_classes))
    grid = pooled.shape[-2:]
    tokens = pooled.permute(0, 3, 4, 1, 2).flatten(0, 2)  # B*h*w, T, C
    guidance = text.repeat_interleave(grid.numel(), dim=0)
    missing = module.padded_classes - num_classes
    if missing > 0:
        tokens = torch.cat([tokens, module.padding_token.expand(len(tokens), missing, -1)], dim=1)
        guidance = torch.cat([guidance, module.padding_guidance.expand(len(guidance), missing, -1)], dim=1)
    normed = module.norm1(tokens)
    guided = torch.cat([normed, guidance], dim=-1)
    heads = lambda tensor: tensor.unflatten(-1, (module.num_heads, -1))  # noqa: E731
    queries, keys = (
        F.elu(heads(joined(linear, guidance_linear, guided))) + 1
        for linear, guidance_linear in ((module.query, module.query_guidance), (module.key, module.key_guidance))
    )
    values = heads(module.value(normed))
    keys_values = torch.einsum("nshd,nshv->nhdv", keys, values)
    normalizer = 1 / (torch.einsum("nlhd,nhd->nlh", queries, keys.sum(dim=1)) + EPSILON)
    tokens = tokens + torch.einsum("nlhd,nhdv,nlh->nlhv", queries, keys_values, normalizer).flatten(-2)
    tokens = tokens + module.contract(F.relu(module.expand(module.norm2(tokens))))
    pooled = tokens[:, :num_classes].unflatten(0, (batch, *grid)).permute(0, 3, 4, 1, 2).flatten(0, 1)
    upsampled = F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=True)
    return x + upsampled.unflatten(0, (batch, num_classes)).transpose(1, 2)


def decode(decoder: Decoder, x: Tensor, guidance: Sequence[Tensor]) -> Tensor:
    """B×C×T×h×w and projected guidance per stage → B×T×4h×4w logits."""
    batch, _, num_classes = x.shape[:3]
    x = x.transpose(1, 2).flatten(0, 1)
    x = guided_upsample(decoder.stage1, x, guidance[0].repeat_interleave(num_classes, dim=0))
    x = guided_upsample(decoder.stage2, x, guidance[1].repeat_interleave(num_classes, dim=0))
    return decoder.classify(x).squeeze(1).unflatten(0, (batch, num_classes))


def guided_upsample(stage: GuidedUpsample, x: Tensor, guidance: Tensor) -> Tensor:
    """Up-convolution, concatenation with guidance, two convolutions with norm and ReLU."""
    kernel = torch.cat([stage.conv1.weight, stage.conv1_guidance.weight], dim=1)
    x = F.conv2d(torch.cat([stage.up(x), guidance], dim=1), kernel, padding=1)
    x = stage.conv2(F.relu(stage.norm1(x)))
    return F.relu(stage.norm2(x))


def dense_binary_cross_entropy(logits: Tensor, sem_seg: Tensor, ignore_label: int) -> Tensor:
    """Mean binary cross-entropy against one-hot targets (all zero where ignored); logits B×T×H×W, sem_seg B×H×W."""
    logits = F.interpolate(logits, size=sem_seg.shape[-2:], mode="bilinear", align_corners=False)
    valid = sem_seg != ignore_label
    targets = F.one_hot(sem_seg.where(valid, 0), logits.shape[1]) * valid.unsqueeze(-1)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets.movedim(-1, 1).to(logits.dtype))
