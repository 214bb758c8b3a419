"""What student and teachers see of an image, prepared on the loader's side.

Shape legend
    H, W  image           S  longer side of the student's view, pixels        K  crops
    h, w  tokens of the student's view, the longer S / patch size

The image is resized so that its longer side is S and the shorter one the nearest whole number of patches; the
foundation model sees the same picture at its own patch size, so that both have the same grid; CLIP as teacher sees the
cells of an m×n grid over the image, or boxes of a file of region proposals, each resized to a square (its native size,
unless told otherwise).

The authors' code pads every view to a square of S instead, which makes a quarter of the tokens of an ordinary photo
(4:3) padding that is computed, attended to and, there, learned from. Here there is none; the price is an aspect ratio
that is off by half a patch at most.

Source: DeCLIP (CVPR 2025), Sec. 3.2 and supplement 9.2.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from declip.data.detection.proposals import Proposals, draw_proposals


@dataclass(frozen=True)
class ViewSizes:
    """Sides and patches of the three views, pixels.

    Attributes:
        student: S.
        student_patch: patch size of the student, and of CLIP as teacher.
        foundation_patch: patch size of the foundation model; 0: there is none.
        crop: side of the CLIP teacher's crops; 0: there are none.
        diffusion_patch: pixels per token of the diffusion model; 0: there is none.

    Raises:
        ValueError: S or the crops' side is no multiple of the student's patch.

    >>> ViewSizes(student=560, student_patch=16, foundation_patch=14, crop=224).grid(height=480, width=640)
    (26, 35)
    """

    student: int
    student_patch: int
    foundation_patch: int
    crop: int
    diffusion_patch: int = 0

    def __post_init__(self) -> None:
        if self.student < self.student_patch or self.student % self.student_patch:
            raise ValueError(
                f"student {self.student} is no multiple of the encoder's patch of {self.student_patch} pixels, so the "
                "grids of student and teacher cannot match: choose a multiple"
            )
        if self.crop % self.student_patch:
            raise ValueError(
                f"crop {self.crop} is no multiple of the encoder's patch of {self.student_patch} pixels: choose one"
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of an image of that size: S along its longer side, at least one token along the shorter."""
        scale = self.student / self.student_patch / max(height, width)
        return max(round(height * scale), 1), max(round(width * scale), 1)


def draw_grid(rng: np.random.Generator, max_split: int, max_crops: int) -> tuple[int, int]:
    """Rows m in [1, max_split] and columns n in [ceil(m/2), min(2m, max_split)], with m*n at most ``max_crops``."""
    rows = int(rng.integers(1, max_split + 1))
    columns = int(rng.integers(math.ceil(rows / 2), min(2 * rows, max_split) + 1))
    while rows * columns > max_crops:
        rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
    return rows, columns


def grid_boxes(height: int, width: int, rows: int, columns: int) -> Tensor:
    """Cells that tile an area: (rows*columns)×4 float (x0, y0, x1, y1), in raster order.

    >>> grid_boxes(64, 96, rows=1, columns=2)
    tensor([[ 0.,  0., 48., 64.],
            [48.,  0., 96., 64.]])
    """
    top, left = torch.linspace(0, height, rows + 1), torch.linspace(0, width, columns + 1)
    cells = [(left[j], top[i], left[j + 1], top[i + 1]) for i in range(rows) for j in range(columns)]
    return torch.tensor(cells)


@dataclass(frozen=True)
class DistillationViews:
    """Makes the views of an image.

    Attributes:
        sizes: of the views.
        max_split: most rows or columns of the crop grid.
        max_crops: most crops per image.
        proposals: boxes that crops are of; None: they are the cells of a grid.
    """

    sizes: ViewSizes
    max_split: int = 6
    max_crops: int = 36
    proposals: Proposals | None = None

    def __call__(self, image: Tensor, rng: np.random.Generator, name: str = "") -> dict[str, Tensor | str]:
        """The views of a 3×H×W uint8 RGB image.

        Args:
            image: of them.
            rng: what the grid or the boxes are drawn by.
            name: of the image's file, by which its proposals are known.

        Returns:
            ``student`` 3×(h*p)×(w*p) and ``foundation`` 3×(h*q)×(w*q) uint8, with p and q the patch sizes of both;
            ``diffusion`` likewise, with its ``digest``, a text that tells images apart; ``boxes`` K×4 in pixels of the
            student's view; ``crops`` K×3×c×c uint8. Keys of views that ``sizes`` leaves out are absent.
        """
        sizes, (height, width) = self.sizes, image.shape[-2:]
        rows, columns = sizes.grid(height, width)
        size = (rows * sizes.student_patch, columns * sizes.student_patch)
        views = {"student": _resize(image, size)}
        if sizes.foundation_patch:
            views["foundation"] = _resize(image, (rows * sizes.foundation_patch, columns * sizes.foundation_patch))
        if sizes.diffusion_patch:
            same = sizes.diffusion_patch == sizes.student_patch
            side = sizes.diffusion_patch
            views["diffusion"] = views["student"] if same else _resize(image, (rows * side, columns * side))
            pixels = views["diffusion"].numpy()
            views["digest"] = hashlib.sha256(f"{rows} {columns} ".encode() + pixels.tobytes()).hexdigest()
        if sizes.crop and self.proposals:
            boxes = draw_proposals(rng, self.proposals.of(name), size, sizes.student_patch, self.max_crops)
            regions = torch.from_numpy(boxes)
            views["boxes"] = regions * torch.tensor(size[::-1]).tile(2)
            views["crops"] = self._crops(image, regions * torch.tensor([width, height]).tile(2))
        elif sizes.crop:
            cells = draw_grid(rng, self.max_split, self.max_crops)
            views["boxes"] = grid_boxes(*size, *cells)
            views["crops"] = self._crops(image, grid_boxes(height, width, *cells))
        return views

    def _crops(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Boxes in pixels of the image → K×3×c×c."""
        height, width = image.shape[-2:]
        crops = []
        for x0, y0, x1, y1 in boxes.round().int().tolist():
            x0, y0 = min(x0, width - 1), min(y0, height - 1)
            cell = image[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
            crops.append(_resize(cell, (self.sizes.crop, self.sizes.crop)))
        return torch.stack(crops)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return transforms.resize(image, list(size), transforms.InterpolationMode.BICUBIC, antialias=True)
