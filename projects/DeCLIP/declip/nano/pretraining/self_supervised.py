"""nano-VFM's training: a patch belongs to the same cluster wherever it is seen from, and even when it is hidden.

A student learns from its own running average, patch by patch: the teacher sees two whole views of a scene and assigns
each patch softly to prototypes; the student sees them with patches hidden, and must predict the assignments, those of
the same view and, where the views overlap, those of the other.

Shape legend
    B     scenes                     s     side of a view, pixels      K  prototypes
    h, w  grid of a view             E     width of the backbone

Source: iBOT (ICLR 2022), masked prediction from a running average; SwAV (NeurIPS 2020), Sec. 3.1, and DINOv2 (2023),
Sec. 4, assignments balanced by Sinkhorn-Knopp; dense agreement of overlapping views as in VICRegL (NeurIPS 2022).
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from declip.nano.attention_backend import quick_attention
from declip.nano.vfm import create_nano_vfm


class PatchClusters(nn.Module):
    """A backbone, and scores of its patches for prototypes."""

    def __init__(self, num_prototypes: int, hidden: int = 256, width: int = 64) -> None:
        super().__init__()
        self.backbone = create_nano_vfm()
        self.projection = nn.Sequential(nn.Linear(self.backbone.embed_dim, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, width))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images B×3×s×s → cosines with the prototypes, B×K×h×w float32."""
        patches = self.backbone.forward_features(images)[:, self.backbone.num_prefix_tokens :]
        embedded = F.normalize(self.projection(patches).float(), dim=-1)
        scores = embedded @ F.normalize(self.prototypes.float(), dim=-1).T
        side = images.shape[-1] // self.backbone.patch_embed.patch_size[0]
        return scores.transpose(1, 2).unflatten(2, (side, side))


class SelfSupervisedPretraining(nn.Module):
    """Batch in, losses out; every forward pass in training first moves the teacher towards the student.

    Args:
        num_prototypes: K.
        momentum: share of the teacher that stays in a step.
        hidden_share: of the student's patches.
        temperature: of the student's predictions; the teacher's assignments are twice as sharp.
    """

    def __init__(
        self, num_prototypes: int = 128, momentum: float = 0.99, hidden_share: float = 0.4, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.student = PatchClusters(num_prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.momentum, self.hidden_share, self.temperature = momentum, hidden_share, temperature
        statistics = self.student.backbone.pretrained_cfg
        self.register_buffer("pixel_mean", torch.tensor(statistics["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(statistics["std"]).view(3, 1, 1), persistent=False)

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """``loss_hidden`` (same view, hidden patches) and ``loss_views`` (the other view, wherever it overlaps).

        Args:
            batch: B samples of :class:`declip.nano.pretraining.scenes.TwoViews`.
        """
        device = self.pixel_mean.device
        views = torch.cat([sample["views"] for sample in batch]).to(device)
        windows = torch.cat([sample["windows"] for sample in batch]).to(device)
        images = (views / 255 - self.pixel_mean) / self.pixel_std
        with quick_attention(device):
            assigned = self._assign(images)
            hidden = self._hide(images)
            predicted = F.log_softmax(self.student(images * ~upsample(hidden, images)) / self.temperature, dim=1)
        same = -(assigned * predicted).sum(dim=1)
        others, overlap = from_other_view(assigned, windows)
        other = -(others * predicted).sum(dim=1)
        return {"loss_hidden": same[hidden].mean(), "loss_views": other[overlap].mean()}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The teacher's features of images B×3×S×S in 0..255, B×E×h×w."""
        backbone = self.teacher.backbone
        images = (images.to(self.pixel_mean.device) / 255 - self.pixel_mean) / self.pixel_std
        patches = backbone.forward_features(images)[:, backbone.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, (images.shape[-2] // 8, -1))

    @torch.no_grad()
    def _assign(self, images: Tensor) -> Tensor:
        """The teacher's balanced assignments, B×K×h×w."""
        if self.training:
            for kept, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                kept.lerp_(new, 1 - self.momentum)
        scores = self.teacher(images)
        flat = balanced_assignment(scores.transpose(0, 1).flatten(1).T, self.temperature / 2)
        return flat.T.unflatten(1, (len(images), *scores.shape[2:])).transpose(0, 1)

    def _hide(self, images: Tensor) -> Tensor:
        """Which patches of each image the student does not see, B×h×w bool: a few rectangles."""
        side = images.shape[-1] // self.student.backbone.patch_embed.patch_size[0]
        coarse = torch.rand(len(images), 1, (side + 1) // 2, (side + 1) // 2, device=images.device)
        field = F.interpolate(coarse, size=(side, side), mode="nearest")[:, 0]
        return field < self.hidden_share


def upsample(mask: Tensor, images: Tensor) -> Tensor:
    """B×h×w bool over patches → B×1×s×s bool over pixels."""
    return F.interpolate(mask[:, None].float(), size=images.shape[-2:], mode="nearest").bool()


def balanced_assignment(scores: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Soft assignments of N patches to K prototypes that use all prototypes equally, by Sinkhorn-Knopp.

    Args:
        scores: N×K cosines.

    Returns:
        N×K; rows sum to 1, columns to about N/K.
    """
    assignment = (scores / temperature - scores.max() / temperature).exp()
    for _ in range(rounds):
        assignment = assignment / assignment.sum(dim=0, keepdim=True).clamp_min(1e-12)
        assignment = assignment / assignment.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return assignment


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
