"""Large-scale jitter: an image scaled by a factor of 20 between its extremes, and a window of fixed size cut out.

Shape legend
    H, W  image        h, w  window, at most S×S        N  objects

Every function draws from the generator it is given and from nothing else.

Source: Ghiasi et al. 2021, "Simple Copy-Paste", Sec. 3 (large-scale jitter); its range 0.1 to 2.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from declip.data.detection.run_lengths import run_lengths

LEAST_SIDE = 0.01  # pixels of a box that stays


@dataclass(frozen=True)
class Window:
    """What is left of an image: scaled, a window cut out, perhaps mirrored. It maps pixels, boxes and masks alike.

    Attributes:
        source: (H, W).
        scaled: (H, W) of the whole image at its new scale.
        top, left: of the window in it.
        size: (h, w).
        mirrored: left and right.

    >>> window = Window(source=(40, 60), scaled=(80, 120), top=0, left=20, size=(80, 80), mirrored=False)
    >>> window.boxes(np.array([[0.0, 10, 30, 20]]))
    array([[ 0., 20., 40., 40.]])
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    mirrored: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """The pixels, h×w×3, bilinear with PIL's antialiasing; no pixel outside the window is computed.

        Args:
            image: of the source, or of it decoded at a smaller size.
        """
        down, right = (new / old for new, old in zip(self.scaled, image.shape[:2], strict=True))
        (height, width), top, left = self.size, self.top, self.left
        box = (left / right, top / down, (left + width) / right, (top + height) / down)
        box = (*box[:2], min(box[2], image.shape[1]), min(box[3], image.shape[0]))
        window = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))
        return window[:, ::-1] if self.mirrored else window

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """N×4 boxes x0, y0, x1, y1 of the source in the window, cut where they leave it."""
        height, width = self.size
        boxes = self._moved(boxes.reshape(-1, 2)).reshape(-1, 4)
        if self.mirrored:
            boxes = boxes[:, [2, 1, 0, 3]]
        return boxes.clip(0, np.array([width, height, width, height]))

    def cuts(self, boxes: np.ndarray) -> np.ndarray:
        """Which of N×4 boxes of the source leave the window, N bool."""
        moved = self._moved(boxes.reshape(-1, 2)).reshape(-1, 4)
        beyond = np.maximum(-moved, moved - np.tile(self.size[::-1], 2))
        return (beyond > LEAST_SIDE).any(axis=1)

    def mask(self, segmentation: list | Mapping) -> np.ndarray:
        """An object's mask in the window, h×w bool.

        Args:
            segmentation: of the source: polygons, or run-lengths as COCO has them.
        """
        height, width = self.size
        if isinstance(segmentation, list):
            moved = [self._moved(np.reshape(polygon, (-1, 2))).ravel().tolist() for polygon in segmentation]
            return coco_mask.decode(run_lengths(moved, height, width)).astype(bool)
        whole = coco_mask.decode(run_lengths(segmentation, *self.source))
        rows, columns = (
            (2 * np.arange(start, start + length) + 1) * old // (2 * new)  # the nearest, in whole numbers
            for start, length, old, new in zip((self.top, self.left), self.size, self.source, self.scaled, strict=True)
        )
        window = whole[rows][:, columns].astype(bool)
        return window[:, ::-1] if self.mirrored else window

    def _moved(self, points: np.ndarray) -> np.ndarray:
        """Points x, y of the source in the window, N×2."""
        right, down = self.scaled[1] / self.source[1], self.scaled[0] / self.source[0]
        points = points * [right, down] - [self.left, self.top]
        return np.stack([self.size[1] - points[:, 0], points[:, 1]], axis=1) if self.mirrored else points


def draw_window(
    source: tuple[int, int], side: int, scales: tuple[float, float], flip: bool, rng: np.random.Generator
) -> Window:
    """A window of an image, at most S×S.

    Args:
        source: (H, W) of the image.
        side: S.
        scales: range of the longer side's new length, in parts of S.
        flip: whether it is mirrored, half of the time.
        rng: what it is drawn by.
    """
    longer = side * rng.uniform(*scales)
    height, width = (max(round(each * longer / max(source)), 1) for each in source)
    size = min(height, side), min(width, side)
    top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip((height, width), size, strict=True))
    return Window(source, (height, width), top, left, size, flip and bool(rng.random() < 0.5))


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The least box around an h×w mask, x0, y0, x1, y1; all zeros where it is empty.

    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (1, 1, 3, 2)
    """
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
