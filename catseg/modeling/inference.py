"""From one image to the views a model sees, and from their logits back to scores of the image.

Shape legend
    n     views               t     classes of a chunk       k  side of a view, pixels        T  classes
    h, w  logits' grid        H, W  image

Source: CAT-Seg's evaluation protocol: the image resized to a square (aspect not kept), overlapping windows of it plus
the whole image at the window's size; window scores (sigmoid) averaged where windows overlap, then averaged with the
whole image's scores, then resized to the original image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from catseg.modeling.chunks import numbers_at_once
from d2host.engine.errors import ConfigError
from declip.models.windows import WindowGrid


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, without antialiasing: n×C×h×w → n×C×H×W."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class WholeImage:
    """One view: the image, resized to a square.

    Attributes:
        side: k.
    """

    side: int

    def views(self, image: Tensor) -> Tensor:
        """A 3×H×W image → 1×3×k×k."""
        return resize(image[None], (self.side, self.side))

    def scores(self, logits: Tensor) -> Tensor:
        """Logits 1×t×h×w → class scores t×h×w in [0, 1]."""
        return logits[0].sigmoid()


@dataclass(frozen=True)
class SlidingWindow:
    """Overlapping windows of the image resized to a square, and the whole image.

    >>> protocol = SlidingWindow(size=640, kernel=384, overlap=0.333)
    >>> tuple(protocol.views(torch.rand(3, 480, 640)).shape)
    (5, 3, 384, 384)
    >>> tuple(protocol.scores(torch.rand(5, 2, 96, 96)).shape)  # of two classes
    (2, 640, 640)

    Attributes:
        size: side of the square, pixels.
        kernel: k, side of a window.
        overlap: of neighbouring windows, as a share of their side, in [0, 1).
        stitch: whether windows meet in the encoder's last block (:mod:`declip.models.stitching`).

    Raises:
        ConfigError: no window fits, or windows would not advance.
    """

    size: int = 640
    kernel: int = 384
    overlap: float = 0.333
    stitch: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.kernel <= self.size:
            raise ConfigError(
                f"a sliding window of kernel {self.kernel} does not fit an image of size {self.size}: choose a kernel "
                "between 1 and the size"
            )
        if not 0 <= self.overlap < 1 or self.stride < 1:
            raise ConfigError(f"a sliding window's overlap of {self.overlap} leaves windows in place: use [0, 1)")

    @property
    def side(self) -> int:
        """Of a view, pixels."""
        return self.kernel

    @property
    def stride(self) -> int:
        """Pixels between neighbouring windows."""
        return int(self.kernel * (1 - self.overlap))

    @property
    def grid(self) -> WindowGrid:
        """The windows of the square."""
        return WindowGrid.of((self.size, self.size), self.kernel, self.stride)

    def patches(self, side: int) -> WindowGrid:
        """The windows of the square in patches, where a window has ``side`` of them.

        Raises:
            ConfigError: windows begin between patches.
        """
        size, stride = (length * side / self.kernel for length in (self.size, self.stride))
        if size % 1 or stride % 1:
            raise ConfigError(
                f"windows of {self.kernel} pixels every {self.stride} in {self.size} cannot be stitched: with {side} "
                f"patches a window they begin every {stride:g} of {size:g}, and both must be whole"
            )
        return WindowGrid.of((int(size),) * 2, side, int(stride))

    def views(self, image: Tensor) -> Tensor:
        """A 3×H×W image → n×3×k×k: the windows in raster order, then the whole image."""
        square = resize(image[None], (self.size, self.size))[0]
        return torch.cat([self.grid.cut(square), resize(image[None], (self.kernel, self.kernel))])

    def scores(self, logits: Tensor) -> Tensor:
        """Logits n×t×h×w of the views → class scores t×size×size in [0, 1]."""
        scores = resize(logits, (self.kernel, self.kernel)).sigmoid_()
        return (self.grid.average(scores[:-1]) + resize(scores[-1:], (self.size, self.size))[0]) / 2


Views = WholeImage | SlidingWindow


def segment_scores(views: Views, logits: Tensor, size: tuple[int, int], class_chunk: int | None = None) -> Tensor:
    """Scores of every class at the size of the original image.

    Args:
        views: how the logits' views lie in the image.
        logits: n×T×h×w.
        size: (H, W).
        class_chunk: classes upsampled at once; None: as many as suit the device.

    Returns:
        T×H×W float32 in [0, 1].
    """
    chunks = logits.split(class_chunk or classes_at_once(views, logits, size), dim=1)
    return torch.cat([resize(views.scores(chunk.float())[None], size)[0] for chunk in chunks])


def classes_at_once(views: Views, logits: Tensor, size: tuple[int, int]) -> int:
    """How many classes to upsample together, for arguments as of :func:`segment_scores`."""
    numbers = max(len(logits) * views.side**2, size[0] * size[1])
    return max(numbers_at_once(logits.device) // numbers, 1)


def segment_labels(views: Views, logits: Tensor, size: tuple[int, int], class_chunk: int | None = None) -> Tensor:
    """The class of the highest score at each pixel, H×W int64; arguments as of :func:`segment_scores`."""
    return best_classes(views, logits, size, class_chunk)[0]


def best_classes(
    views: Views, logits: Tensor, size: tuple[int, int], class_chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """The class of the highest score at each pixel, and that score; arguments as of :func:`segment_scores`.

    Memory does not grow with the number of classes: only the best score so far is kept.

    Returns:
        H×W int64, and H×W float32 in [0, 1].
    """
    best = logits.new_full(size, float("-inf"), dtype=torch.float32)
    labels = torch.zeros(size, dtype=torch.long, device=logits.device)
    class_chunk = class_chunk or classes_at_once(views, logits, size)
    for first in range(0, logits.shape[1], class_chunk):
        chunk = logits[:, first : first + class_chunk].float()
        scores, indices = resize(views.scores(chunk)[None], size)[0].max(dim=0)
        better = scores > best
        best = torch.where(better, scores, best)
        labels = torch.where(better, indices + first, labels)
    return labels, best
