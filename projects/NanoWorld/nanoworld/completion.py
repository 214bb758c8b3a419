"""What completing affinities by a diffusion model's attention does for them: pairs of one segment, and borders.

Shape legend
    h, w  grid of patches, N = h * w

Rows are compared within themselves and by their direction alone, since that is all that a softmax over rows, whatever
its temperature, keeps in common for affinities of different ranges.
"""

from collections.abc import Iterable

import numpy as np
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from d2host.engine.tensors import check_finite
from nanoworld.evaluation import patch_segments
from nanoworld.world import Scene


def evaluate_rows(affinities: Iterable[Tensor], scenes: Iterable[Scene], patch_size: int = 8) -> dict[str, float]:
    """How well rows of affinities follow segments.

    Args:
        affinities: N×N of each scene.
        scenes: labelled; a patch, on a border or not, counts to the segment that has most of it.

    Returns:
        ``row_auroc`` in [0, 1], see :func:`row_auroc`, mean over scenes, and ``boundary_f`` in [0, 1], see
        :func:`best_f_score`, at one threshold for all scenes.
    """
    aurocs, strengths, borders = [], [], []
    for found, scene in zip(affinities, scenes, strict=True):
        check_finite(found, "the affinities of a scene")
        segments, _ = patch_segments(scene.segment_ids, patch_size)
        aurocs.append(row_auroc(found.numpy(), segments.ravel()))
        strengths += [each.numpy().ravel() for each in boundary_strengths(found, segments.shape)]
        borders += [(segments[:, 1:] != segments[:, :-1]).ravel(), (segments[1:] != segments[:-1]).ravel()]
    best = best_f_score(np.concatenate(strengths), np.concatenate(borders))
    return {"row_auroc": float(np.nanmean(aurocs)), "boundary_f": best}


def row_auroc(affinities: np.ndarray, segments: np.ndarray) -> float:
    """AUROC of a patch's affinities for the other patches of its segment, mean over patches; 0.5 is chance.

    Args:
        affinities: N×N.
        segments: N; patches of a segment of one patch are left out, as are all where there is one segment.
    """
    others = ~np.eye(len(segments), dtype=bool)
    ranks = rankdata(affinities[others].reshape(len(segments), -1), axis=1)
    same = (segments[:, None] == segments)[others].reshape(ranks.shape)
    positives, negatives = same.sum(axis=1), (~same).sum(axis=1)
    usable = (positives > 0) & (negatives > 0)
    wins = (ranks * same).sum(axis=1) - positives * (positives + 1) / 2
    return float((wins[usable] / (positives * negatives)[usable]).mean()) if usable.any() else float("nan")


def boundary_strengths(affinities: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """One minus the cosine of the rows of neighbours: h×(w-1) across, (h-1)×w down.

    Args:
        affinities: N×N.
        grid: (h, w).
    """
    rows = F.normalize(affinities, dim=1).unflatten(0, grid)
    return 1 - (rows[:, 1:] * rows[:, :-1]).sum(dim=2), 1 - (rows[1:] * rows[:-1]).sum(dim=2)


def best_f_score(strengths: np.ndarray, borders: np.ndarray) -> float:
    """The highest F-score of calling what is above a threshold a border, over all thresholds.

    Args:
        strengths: of P pairs of neighbours.
        borders: P bool, the truth.
    """
    found = borders[np.argsort(-strengths, kind="stable")].cumsum()
    return float((2 * found / (np.arange(1, len(borders) + 1) + borders.sum())).max())
