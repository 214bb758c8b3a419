"""What the nano world's models can do: naming close-ups, and telling segments apart.

Shape legend
    h, w  grid of patches        S  side of a scene, pixels
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import Tensor

from d2host.engine.tensors import check_finite
from declip.models.encoder import DenseCLIP
from nanoworld.photos import TEMPLATES, Window, cut_out, enlarged_window, square_window
from nanoworld.vocabulary import CLASSES
from nanoworld.world import Scene, render_scene

PURE = 0.9  # share of a close-up of stuff, or of a patch, that one segment must fill
ALIKE = 0.8  # cosine above which two patches count as alike


def scenes_of(seed: int, count: int) -> list[Scene]:
    """The first scenes of a series."""
    return [render_scene(seed, index) for index in range(count)]


@torch.no_grad()
def close_up_accuracy(encoder: DenseCLIP, scenes: Iterable[Scene]) -> dict[str, float]:
    """Zero-shot top-1 accuracy over all classes on close-ups of single things and stuffs.

    Class embeddings are means over the captions' templates, as CLIP's over its prompts.

    Returns:
        Percent: ``closeup_acc``, ``closeup_acc_things``, ``closeup_acc_stuff``.
    """
    device = encoder.pixel_mean.device
    text = _class_embeddings(encoder)
    crops, labels, things = [], [], []
    for scene in scenes:
        for index, segment in enumerate(scene.segments):
            window = typical_window(scene, index)
            if window:
                crops.append(torch.from_numpy(cut_out(scene.image, window, encoder.image_size).copy()))
                labels.append(CLASSES.index(segment.name))
                things.append(segment.is_thing)
    batches = rearrange(torch.stack(crops), "k h w c -> k c h w").split(64)
    images = torch.cat([encoder.encode_image(encoder.normalize(batch.to(device))).float() for batch in batches])
    check_finite(images, "the embeddings of close-ups")
    right = ((F.normalize(images, dim=1) @ text.T).argmax(dim=1).cpu() == torch.tensor(labels)).double()
    is_thing = torch.tensor(things)
    groups = {"": right, "_things": right[is_thing], "_stuff": right[~is_thing]}
    return {f"closeup_acc{name}": 100 * group.mean().item() for name, group in groups.items()}


def _class_embeddings(encoder: DenseCLIP) -> Tensor:
    prompts = [[template.format(f"a {name}") for name in CLASSES] for template in TEMPLATES]
    embeddings = [F.normalize(encoder.encode_text(texts).float(), dim=1) for texts in prompts]
    return F.normalize(torch.stack(embeddings).mean(dim=0), dim=1)


def typical_window(scene: Scene, index: int) -> Window | None:
    """A square that shows little else than one segment; None where there is none.

    For a thing that is at least half visible in its box: the box enlarged 1.5 times. For a stuff: the largest of a
    few sizes that it fills.
    """
    segment, side = scene.segments[index], len(scene.image)
    if segment.is_thing:
        x0, y0, x1, y1 = segment.box
        return enlarged_window(segment, 1.5, side) if 3 * segment.area > (x1 - x0) * (y1 - y0) else None
    own = (scene.segment_ids == index).astype(np.float32)
    for length in (64, 48, 32, 24):
        share = uniform_filter(own, length, mode="constant")
        row, column = np.unravel_index(share.argmax(), share.shape)
        if share[row, column] >= PURE:
            return square_window((column, row), length, side)
    return None


@torch.no_grad()
def evaluate_affinities(
    features: Callable[[Tensor], Tensor], scenes: Iterable[Scene], patch_size: int = 8
) -> dict[str, float]:
    """How well cosines between patches tell pairs of one segment from pairs of two.

    The AUROC is about order alone. What imitates the cosines themselves blends a thing into its surroundings where
    they are high across, which the shares above :data:`ALIKE` tell.

    Args:
        features: images 1×3×S×S in 0..255 → 1×C×h×w.
        scenes: labelled; patches on borders between segments are left out.

    Returns:
        ``affinity_auroc``, area under the ROC curve, in [0, 1], mean over scenes; 0.5 is chance. Percent of pairs with
        cosines above :data:`ALIKE`: ``alike_within`` a segment, ``alike_across`` a thing and a stuff.
    """
    aurocs, within, across = [], [], []
    for scene in scenes:
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
        segments, pure = (grid.ravel() for grid in patch_segments(scene.segment_ids, patch_size))
        tokens = F.normalize(features(image)[0].flatten(1).T.float(), dim=1).cpu()[torch.from_numpy(pure)]
        check_finite(tokens, "the features of a scene")
        labels = segments[pure]
        first, second = np.triu_indices(len(labels), k=1)
        cosines, same = (tokens @ tokens.T).numpy()[first, second], labels[first] == labels[second]
        is_thing = np.array([segment.is_thing for segment in scene.segments])[labels]
        aurocs.append(affinity_auroc(cosines, same))
        within.append(cosines[same] > ALIKE)
        across.append(cosines[is_thing[first] != is_thing[second]] > ALIKE)
    return {
        "affinity_auroc": float(np.nanmean(aurocs)),
        "alike_within": 100 * float(np.concatenate(within).mean()),
        "alike_across": 100 * float(np.concatenate(across).mean()),
    }


def affinity_auroc(affinities: np.ndarray, same: np.ndarray) -> float:
    """AUROC of the affinities of P pairs for those of the ``same`` segment, P bool; NaN unless there are both kinds."""
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(affinities)
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def patch_segments(segment_ids: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent segment of each patch, h×w, and whether it fills the patch, h×w bool."""
    patches = rearrange(segment_ids, "(h p) (w q) -> h w (p q)", p=patch_size, q=patch_size)
    counts = (patches[..., None, :] == np.arange(segment_ids.max() + 1)[:, None]).sum(axis=-1)
    return counts.argmax(axis=-1), counts.max(axis=-1) >= PURE * patch_size**2
