"""nano-VFM's training: a place of a scene has the same feature in every view, and unlike places have orthogonal ones.

Two views of a scene are seen with patches hidden. Where they overlap, the features of one have to be those of the
other, hidden or not; over all patches of a batch, features have to be as different as they can. What is left in common
is what surroundings tell of a patch: the segment it belongs to.

Shape legend
    B     scenes                     s     side of a view, pixels
    h, w  grid of a view             E     width of the backbone

Source: the spectral contrastive loss of HaoChen et al. (NeurIPS 2021), Sec. 3.2, between patches instead of images;
hidden patches as in iBOT (ICLR 2022); dense agreement of overlapping views as in VICRegL (NeurIPS 2022).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2host import comm
from d2host.engine.parallel import sum_over_processes
from declip.weights.files import half_precision, save_tensors
from nanoworld.attention_backend import quick_attention
from nanoworld.evaluation import evaluate_affinities
from nanoworld.vfm import VFM_NAME, create_nano_vfm
from nanoworld.world import Scene


class SelfSupervisedPretraining(nn.Module):
    """Batch in, losses out.

    Args:
        hidden_share: of the patches of a view.
        repulsion: squared norm that the spectral loss gives features; 1 / repulsion is about the share of all patches
            that may look alike.
        weights: to start from, see :func:`nanoworld.vfm.create_nano_vfm`.
    """

    def __init__(self, hidden_share: float = 0.4, repulsion: float = 32.0, weights: str = "") -> None:
        super().__init__()
        self.backbone = create_nano_vfm(weights)
        self.hidden_share, self.repulsion = hidden_share, repulsion
        statistics = self.backbone.pretrained_cfg
        self.register_buffer("pixel_mean", torch.tensor(statistics["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(statistics["std"]).view(3, 1, 1), persistent=False)

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """``loss_attraction``, in [0, 4], and ``loss_repulsion``: the two terms of :func:`spectral_loss`.

        Args:
            batch: B samples of :class:`nanoworld.pretraining.scenes.TwoViews`.
        """
        device = self.pixel_mean.device
        views = torch.cat([sample["views"] for sample in batch]).to(device)
        windows = torch.cat([sample["windows"] for sample in batch]).to(device)
        images = self._normalize(views)
        hidden = self._hide(images, [sample["seed"] for sample in batch])
        with quick_attention(device):
            features = F.normalize(self._patches(images * ~upsample(hidden, images)), dim=1)
        others, overlap = from_other_view(features, windows)
        attraction, repulsion = spectral_loss(features, others, overlap, self.repulsion)
        return {"loss_attraction": attraction, "loss_repulsion": repulsion}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features of images B×3×S×S in 0..255, B×E×h×w."""
        return self._patches(self._normalize(images.to(self.pixel_mean.device)))

    def evaluate(self, scenes: Iterable[Scene]) -> dict[str, float]:
        """Affinities of patches, see :func:`nanoworld.evaluation.evaluate_affinities`."""
        return evaluate_affinities(self.features, scenes)

    def export(self, path: Path, facts: dict[str, object]) -> Path:
        """Write the weights as ``MODEL.TEACHER.WEIGHTS`` takes them."""
        return save_tensors(half_precision(self.backbone.state_dict()), path, {"model": VFM_NAME, **facts})

    def load(self, path: str) -> None:
        """Take the weights of a file, or shipped ones by name."""
        self.backbone.load_state_dict(create_nano_vfm(path).state_dict())

    def _normalize(self, images: Tensor) -> Tensor:
        return (images / 255 - self.pixel_mean) / self.pixel_std

    def _patches(self, images: Tensor) -> Tensor:
        """Normalised images B×3×S×S → B×E×h×w float32."""
        patches = self.backbone.forward_features(images)[:, self.backbone.num_prefix_tokens :].float()
        return patches.transpose(1, 2).unflatten(2, (images.shape[-2] // self._patch_size, -1))

    def _hide(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Which patches of each image are hidden, 2B×h×w bool: squares of two by two, drawn by the seed of a scene."""
        side = images.shape[-1] // self._patch_size
        size = (2, 1, (side + 1) // 2, (side + 1) // 2)
        coarse = torch.cat([torch.rand(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        field = F.interpolate(coarse.to(images.device), size=(side, side), mode="nearest")[:, 0]
        return field < self.hidden_share

    @property
    def _patch_size(self) -> int:
        return self.backbone.patch_embed.patch_size[0]


def upsample(mask: Tensor, images: Tensor) -> Tensor:
    """B×h×w bool over patches → B×1×s×s bool over pixels."""
    return F.interpolate(mask[:, None].float(), size=images.shape[-2:], mode="nearest").bool()


def spectral_loss(features: Tensor, others: Tensor, overlap: Tensor, repulsion: float) -> tuple[Tensor, Tensor]:
    """Alike where the views overlap, orthogonal everywhere else, for unit features.

    ``2 - 2 E[u . u+]`` over overlapping places and ``repulsion * E[(u . u')^2]`` over all pairs of patches of the
    batch, of all processes. The pairs need no N×N matrix: their mean square is that of the E×E second moment.

    Args:
        features: B×E×h×w, unit vectors.
        others: B×E×h×w, the same places seen from the other view.
        overlap: B×h×w bool, where there is another view.
        repulsion: weight of the second term.

    Returns:
        The two terms, scalars.
    """
    tokens = features.transpose(0, 1).flatten(1)
    alike = sum_over_processes((features * others).sum(dim=1)[overlap].sum()) / sum_over_processes(overlap.sum())
    moment = sum_over_processes(tokens @ tokens.T) / (tokens.shape[1] * comm.get_world_size())
    return 2 - 2 * alike, repulsion * moment.square().sum()


def from_other_view(maps: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Each view's picture of the other view of its scene, bilinear.

    Args:
        maps: 2B×K×h×w; views 2i and 2i+1 show the same scene.
        windows: 2B×4, what part of the scene (x0, y0, x1, y1) a view shows; mirrored where x0 > x1.

    Returns:
        2B×K×h×w, and 2B×h×w bool: whether the other view shows the place.
    """
    swap = torch.arange(len(maps), device=maps.device) ^ 1
    rows, columns = (
        (torch.arange(length, device=maps.device, dtype=windows.dtype) + 0.5) / length for length in maps.shape[-2:]
    )
    x0, y0, x1, y1 = windows[:, :, None].unbind(1)
    u0, v0, u1, v1 = windows[swap][:, :, None].unbind(1)
    across = 2 * (x0 + columns * (x1 - x0) - u0) / (u1 - u0) - 1
    down = 2 * (y0 + rows * (y1 - y0) - v0) / (v1 - v0) - 1
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
    sampled = F.grid_sample(maps[swap], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled, (grid.abs() <= 1).all(dim=-1)
