"""CAT-Seg's loss: binary cross-entropy of every class at every pixel.

Shape legend
    B     images         T     classes         h, w  logits' grid         H, W  label map

The target is one-hot (all zero at ignored pixels, which still count in the mean), so with x the upsampled logits

    mean BCE = (sum softplus(x) - sum over labelled pixels of x[label]) / (B * T * H * W).

The target never exists, nor more of x than suits the device: classes go by in chunks that are computed again in the
backward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from catseg.modeling.chunks import numbers_at_once


def binary_cross_entropy(logits: Tensor, sem_seg: Tensor, ignore_label: int, class_chunk: int | None = None) -> Tensor:
    """Mean binary cross-entropy with logits at label resolution.

    >>> logits, labels = torch.randn(2, 5, 24, 24), torch.randint(5, (2, 96, 96))
    >>> binary_cross_entropy(logits, labels, ignore_label=255).shape
    torch.Size([])

    Args:
        logits: B×T×h×w; upsampled bilinearly to the label maps.
        sem_seg: B×H×W int64, class indices or ``ignore_label``.
        ignore_label: pixels of no class.
        class_chunk: classes upsampled at once; None: as many as suit the device.

    Returns:
        A scalar, float32 at least.
    """
    class_chunk = class_chunk or max(numbers_at_once(logits.device) // sem_seg.numel(), 1)
    total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
    for first in range(0, logits.shape[1], class_chunk):
        chunk = logits[:, first : first + class_chunk]
        labels = torch.where(sem_seg == ignore_label, -1, sem_seg - first)
        if chunk.requires_grad:
            total = total + checkpoint(_summed_cross_entropy, chunk, labels, use_reentrant=False)
        else:
            total = total + _summed_cross_entropy(chunk, labels)
    return total / (logits.shape[1] * sem_seg.numel())


def _summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of t classes: logits B×t×h×w, labels B×H×W (outside [0, t): none of these)."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        classes = logits.shape[1]
        inside = (labels >= 0) & (labels < classes)
        at_label = logits.gather(1, labels.clamp(0, classes - 1).unsqueeze(1)).squeeze(1)
        return F.softplus(logits).sum() - at_label.where(inside, 0.0).sum()
