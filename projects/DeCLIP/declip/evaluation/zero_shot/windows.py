"""Windows of an image, and the way back from the logits of their patches to pixels.

Shape legend
    H, W  image as the encoder's windows see it        R, C  rows and columns of windows
    k     side of a window, pixels                     g     patches along it
    O     side of the labels, pixels

Each window's logits are upsampled to its pixels, averaged where windows overlap, and resized to the labels' size.
All of that is linear, and separable because windows form a grid: with X the patches of all windows laid out as an
(R*g)×(C*g) matrix per class, the result is ``A X B^T``. The two small matrices come from the interpolations
themselves, so the outcome is that of the step-by-step computation at a fraction of its cost.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Axis:
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
    patch_size: int

    @property
    def extent(self) -> int:
        """Pixels of a window, without padding."""
        return min(self.window or self.length, self.length)

    @property
    def padded(self) -> int:
        """Pixels of a window, padding included."""
        return -(-self.extent // self.patch_size) * self.patch_size

    @property
    def patches(self) -> int:
        """g."""
        return self.padded // self.patch_size

    @property
    def starts(self) -> list[int]:
        """First pixel of each window; the last is moved back inside the image."""
        last = self.length - self.extent
        return [*range(0, last, self.stride), last]

    def way_back(self, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """O×(windows*g): from the patches of all windows to pixels of the labels."""
        upsample = interpolation(self.patches, self.padded, dtype)[: self.extent]
        canvas = torch.zeros(self.length, len(self.starts) * self.patches, dtype=dtype)
        count = torch.zeros(self.length, 1, dtype=dtype)
        for index, start in enumerate(self.starts):
            columns = slice(index * self.patches, (index + 1) * self.patches)
            canvas[start : start + self.extent, columns] = upsample
            count[start : start + self.extent] += 1
        return interpolation(self.length, size, dtype) @ (canvas / count)


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image.

    Attributes:
        rows, columns: along height and width.
    """

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, size: tuple[int, int], window: int, stride: int, patch_size: int) -> "WindowGrid":
        """For an image of (H, W) pixels."""
        return cls(*(Axis(length, window, stride, patch_size) for length in size))

    def cut(self, image: Tensor) -> Tensor:
        """A normalised image 3×H×W → windows (R*C)×3×k×k in raster order, zeros where padded."""
        below, right = self.rows.padded - self.rows.extent, self.columns.padded - self.columns.extent
        windows = [
            image[:, top : top + self.rows.extent, left : left + self.columns.extent]
            for top in self.rows.starts
            for left in self.columns.starts
        ]
        return F.pad(torch.stack(windows), (0, right, 0, below))

    def lay_out(self, logits: Tensor) -> Tensor:
        """Logits of the windows (R*C)×T×g×g → T×(R*g)×(C*g)."""
        grid = logits.unflatten(0, (len(self.rows.starts), len(self.columns.starts)))
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def way_back(self, size: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32):
        """The two matrices A and B for labels of (height, width) pixels."""
        sides = zip((self.rows, self.columns), size, strict=True)
        return tuple(axis.way_back(length, dtype).to(device) for axis, length in sides)


def interpolation(source: int, target: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The target×source matrix of bilinear resizing along one side, without antialiasing."""
    identity = torch.eye(source, dtype=dtype)[None]
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T
