"""CAT-Seg's loss: binary cross-entropy of every class at every pixel.

Shape legend
    T     classes             h, w  logits' grid             H, W  label map

The target is one-hot (all zero at ignored pixels, which still count in the mean), so with x the upsampled logits

    mean BCE = (sum softplus(x) - sum over labelled pixels of x[label]) / (T * H * W).

Neither the target nor all of x ever exist: classes go by in chunks that are computed again in the backward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CLASS_CHUNK = 16


def binary_cross_entropy(logits: Tensor, sem_seg: Tensor, ignore_label: int, class_chunk: int = CLASS_CHUNK) -> Tensor:
    """Mean binary cross-entropy with logits of one image at label resolution.

    Args:
        logits: T×h×w; upsampled bilinearly to the label map.
        sem_seg: H×W int64, class indices or ``ignore_label``.
        ignore_label: pixels of no class.
        class_chunk: classes upsampled at once.

    Returns:
        A scalar, float32 at least.
    """
    total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
    for first in range(0, len(logits), class_chunk):
        chunk = logits[first : first + class_chunk]
        labels = torch.where(sem_seg == ignore_label, -1, sem_seg - first)
        if chunk.requires_grad:
            total = total + checkpoint(_summed_cross_entropy, chunk, labels, use_reentrant=False)
        else:
            total = total + _summed_cross_entropy(chunk, labels)
    return total / (len(logits) * sem_seg.numel())


def _summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of t classes: logits t×h×w, labels H×W (outside [0, t): none of these classes)."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear", align_corners=False)[0]
        inside = (labels >= 0) & (labels < len(logits))
        at_label = logits.gather(0, labels.clamp(0, len(logits) - 1)[None])[0]
        return F.softplus(logits).sum() - at_label.where(inside, 0.0).sum()
