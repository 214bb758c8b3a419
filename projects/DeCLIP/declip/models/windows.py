"""Sliding windows over an image, and the ways back from what a model says of each window to the image.

Shape legend
    H, W  image as the windows see it        R, C  rows and columns of windows
    k     side of a window, pixels           g     patches along it
    O     side of the result, pixels         T     classes

There are two ways back. :meth:`WindowGrid.average` adds up maps as large as the windows, whatever made them. Where a
map is the bilinear enlargement of one value per patch, all steps (enlarging each window, averaging where windows
overlap, resizing the image) are linear, and separable because windows form a grid: with X the patches of all windows
laid out as an (R*g)×(C*g) matrix per class (:meth:`WindowGrid.lay_out`), the result is ``A X B^T``. The two small
matrices (:meth:`WindowGrid.way_back`) come from the interpolations themselves, so the outcome is that of the
step-by-step computation at a fraction of its cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one side of an image.

    Attributes:
        length: of the side, pixels.
        window: wanted side of a window, pixels; a shorter image has one window of its own length. 0: the same.
        stride: pixels between windows.
        patch_size: pixels per patch; windows are padded to its multiple.
    """

    length: int
    window: int
    stride: int
    patch_size: int = 1

    @property
    def extent(self) -> int:
        """Pixels of a window, without padding."""
        return min(self.window or self.length, self.length)

    @property
    def padded(self) -> int:
        """Pixels of a window, padding included."""
        return self.patches * self.patch_size

    @property
    def patches(self) -> int:
        """g."""
        return -(-self.extent // self.patch_size)

    @property
    def spans(self) -> list[slice]:
        """The pixels of each window; the last window is moved back inside the image."""
        last = self.length - self.extent
        return [slice(start, start + self.extent) for start in (*range(0, last, self.stride), last)]

    def way_back(self, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """O×(windows*g): from the patches of all windows to ``size`` pixels."""
        upsample = _interpolation(self.patches, self.padded, dtype)[: self.extent]
        canvas = torch.zeros(self.length, len(self.spans), self.patches, dtype=dtype)
        count = torch.zeros(self.length, 1, 1, dtype=dtype)
        for index, span in enumerate(self.spans):
            canvas[span, index] = upsample
            count[span] += 1
        return _interpolation(self.length, size, dtype) @ (canvas / count).flatten(1)


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image, in raster order.

    >>> grid = WindowGrid.of((40, 64), window=32, stride=16, patch_size=8)  # two rows of three windows
    >>> windows = grid.cut(torch.rand(3, 40, 64))
    >>> tuple(windows.shape)
    (6, 3, 32, 32)
    >>> tuple(grid.average(windows).shape)
    (3, 40, 64)
    >>> rows, columns = grid.way_back((80, 128), torch.device("cpu"))
    >>> logits = torch.rand(6, 10, 4, 4)  # of ten classes for the 4×4 patches of each window
    >>> tuple((rows @ grid.lay_out(logits) @ columns.T).shape)
    (10, 80, 128)

    Attributes:
        rows, columns: along height and width.
    """

    rows: WindowAxis
    columns: WindowAxis

    @classmethod
    def of(cls, size: tuple[int, int], window: int, stride: int, patch_size: int = 1) -> "WindowGrid":
        """For an image of (H, W) pixels; see :class:`WindowAxis`."""
        return cls(*(WindowAxis(length, window, stride, patch_size) for length in size))

    @property
    def spans(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each window."""
        return ((rows, columns) for rows in self.rows.spans for columns in self.columns.spans)

    def cut(self, image: Tensor) -> Tensor:
        """An image 3×H×W → windows (R*C)×3×k×k, zeros where padded."""
        below, right = self.rows.padded - self.rows.extent, self.columns.padded - self.columns.extent
        windows = torch.stack([image[:, rows, columns] for rows, columns in self.spans])
        return F.pad(windows, (0, right, 0, below)) if below or right else windows

    def average(self, maps: Tensor) -> Tensor:
        """Maps of the windows (R*C)×T×k×k → T×H×W, the mean where windows overlap; windows without padding."""
        total = maps.new_zeros(maps.shape[1], self.rows.length, self.columns.length)
        count = maps.new_zeros(self.rows.length, self.columns.length)
        for (rows, columns), each in zip(self.spans, maps, strict=True):
            total[:, rows, columns] += each
            count[rows, columns] += 1
        return total / count

    def lay_out(self, logits: Tensor) -> Tensor:
        """Logits of the windows (R*C)×T×g×g → T×(R*g)×(C*g)."""
        return rearrange(logits, "(rows columns) t g h -> t (rows g) (columns h)", rows=len(self.rows.spans))

    def way_back(
        self, size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """The two matrices A and B for a result of (height, width) pixels."""
        height, width = size
        return self.rows.way_back(height, dtype).to(device), self.columns.way_back(width, dtype).to(device)


def _interpolation(source: int, target: int, dtype: torch.dtype) -> Tensor:
    """The target×source matrix of bilinear resizing along one side, without antialiasing."""
    identity = torch.eye(source, dtype=dtype)[None]
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T
