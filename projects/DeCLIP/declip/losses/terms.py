"""The two losses of DeCLIP, and how they add up.

Shape legend
    B     images                      C   width of the shared image-text space
    N     tokens, h * w               D   channels of a context feature
    K     crops of the whole batch    E   channels of the vision foundation model

Both are means over images of a mean within the image, so that neither the number of an image's crops nor the split of
a batch over processes changes its weight.

Source: DeCLIP (CVPR 2025), Sec. 3.2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from declip.losses.correlation import correlation_distance


def content_loss(content: Tensor, boxes: Sequence[Tensor], crop_embeddings: Tensor, patch_size: int) -> Tensor:
    """How far the dense features of regions are from CLIP's embeddings of the same regions as images (Eq. 7).

    ``1 - mean_k cos(RoIAlign(X_content, box_k), CLS(crop_k))`` over the crops k of an image, averaged over images.

    Args:
        content: B×C×h×w dense features.
        boxes: per image K_i×4 (x0, y0, x1, y1) in pixels of the student's view.
        crop_embeddings: K×C class tokens of the crops, in the order of ``boxes``.
        patch_size: pixels per token.

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: boxes and embeddings differ in number, or an image has none.
    """
    counts = [len(each) for each in boxes]
    if sum(counts) != len(crop_embeddings) or not all(counts):
        raise ValueError(f"{counts} boxes for {len(crop_embeddings)} crops: each box needs the embedding of its crop")
    with torch.autocast(content.device.type, enabled=False):
        full = torch.promote_types(content.dtype, torch.float32)
        boxes = [each.to(content.device, full) for each in boxes]
        regions = roi_align(content.to(full), boxes, output_size=1, spatial_scale=1 / patch_size, aligned=True)
        cosines = F.cosine_similarity(regions.flatten(1), crop_embeddings.to(full), dim=1)
        return 1 - torch.stack([each.mean() for each in cosines.split(counts)]).mean()


def context_loss(
    context: Sequence[Tensor], teacher: Tensor, valid: Tensor | None = None, rows_at_once: int = 256
) -> Tensor:
    """How far the student's correlations between tokens are from the teacher's (Eq. 8-9).

    With R the matrix of cosines between all tokens of an image, the mean over tokens i of
    ``|| R_i(teacher) - R_i(student) ||_2``, averaged over images. Several student features (``qk``) count by the mean
    of their matrices.

    Args:
        context: student features B×N×D.
        teacher: B×N×E features of the foundation model on the same grid.
        valid: B×N bool; padding is False and takes part neither as row nor as column. None: all tokens are valid.
        rows_at_once: rows of R that exist at a time; see :func:`declip.losses.correlation.correlation_distance`.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: the grids differ, or no token of an image is valid.
    """
    for features in context:
        if features.shape[:2] != teacher.shape[:2]:
            raise ValueError(f"student tokens {tuple(features.shape[:2])} are not the teacher's {teacher.shape[:2]}")
    if valid is None:
        valid = torch.ones(teacher.shape[:2], dtype=torch.bool, device=teacher.device)
    if not context or not valid.any(dim=1).all():
        raise ValueError("the context loss needs a student feature, and a valid token in every image")
    images = zip(zip(*(features.unbind() for features in context), strict=True), teacher, valid, strict=True)
    distances = []
    for student, target, keep in images:
        if not keep.all():
            student, target = [features[keep] for features in student], target[keep]
        distances.append(correlation_distance(student, target, rows_at_once) / keep.sum())
    return torch.stack(distances).mean()
