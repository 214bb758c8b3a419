"""Random changes of a training image and its label map.

Shape legend
    image   H×W×3 uint8 RGB          sem_seg  H×W int64

Every function draws from the generator it is given and from nothing else.
"""

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from declip.data.mapper import resize_labels

PAD_VALUE = 128  # grey, of image pixels beyond the border
CROP_TRIES = 10


def resize(image: np.ndarray, sem_seg: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels at (h, w): bilinear with antialiasing, and each label that of the nearest pixel.

    Torchvision's kernel on uint8, five times as fast as PIL's, which evaluation uses; their pixels differ by two grey
    levels of 255 at most.
    """
    if sem_seg.shape == size:
        return image, sem_seg
    pixels = transforms.resize(torch.from_numpy(image).permute(2, 0, 1), list(size), antialias=True)
    return pixels.permute(1, 2, 0).numpy(), resize_labels(sem_seg, size)


def random_crop(
    image: np.ndarray,
    sem_seg: np.ndarray,
    size: tuple[int, int],
    single_category_max_area: float,
    ignore_label: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a window of ``size`` (height, width) in which no class fills more than a share of the labelled pixels.

    After ten tries the last window is taken. Where the image is smaller it is padded, right and bottom, with grey
    and ``ignore_label``.
    """
    image, sem_seg = pad_to(image, sem_seg, size, ignore_label)
    for _ in range(CROP_TRIES):
        top = int(rng.integers(image.shape[0] - size[0] + 1))
        left = int(rng.integers(image.shape[1] - size[1] + 1))
        window = sem_seg[top : top + size[0], left : left + size[1]]
        if single_category_max_area >= 1:
            break
        counts = np.bincount(window[window != ignore_label])
        if np.count_nonzero(counts) > 1 and counts.max() < counts.sum() * single_category_max_area:
            break
    return image[top : top + size[0], left : left + size[1]], window


def pad_to(
    image: np.ndarray, sem_seg: np.ndarray, size: tuple[int, int], ignore_label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grow to at least ``size`` (height, width), right and bottom."""
    extra = [(0, max(wanted - have, 0)) for wanted, have in zip(size, sem_seg.shape, strict=True)]
    if not any(after for _, after in extra):
        return image, sem_seg
    image = np.pad(image, [*extra, (0, 0)], constant_values=PAD_VALUE)
    return image, np.pad(sem_seg, extra, constant_values=ignore_label)


def random_flip(image: np.ndarray, sem_seg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left and right, half of the time."""
    if rng.random() < 0.5:
        return image[:, ::-1], sem_seg[:, ::-1]
    return image, sem_seg


def color_jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion of SSD (Liu et al. 2016, Sec. 2.2 "Data augmentation").

    Each with probability one half: brightness by up to ±32, contrast by 0.5 to 1.5 (before or after the colours),
    saturation by 0.5 to 1.5, hue by up to ±18 of 180 steps.
    """

    def chance() -> bool:
        return rng.random() < 0.5

    picture = Image.fromarray(image)
    if chance():
        picture = picture.point(_affine(1.0, rng.uniform(-32, 32)) * 3)
    contrast_first = chance()
    if contrast_first and chance():
        picture = picture.point(_affine(rng.uniform(0.5, 1.5), 0.0) * 3)
    saturation = rng.uniform(0.5, 1.5) if chance() else 1.0
    hue = rng.uniform(-18, 18) / 180 if chance() else 0.0
    if saturation != 1.0 or hue != 0.0:
        turned = [(value + round(hue * 256)) % 256 for value in range(256)]
        tables = turned + _affine(saturation, 0.0) + _affine(1.0, 0.0)
        picture = picture.convert("HSV").point(tables).convert("RGB")
    if not contrast_first and chance():
        picture = picture.point(_affine(rng.uniform(0.5, 1.5), 0.0) * 3)
    return np.asarray(picture)


def _affine(factor: float, offset: float) -> list[int]:
    """What becomes of each value of a channel."""
    return (np.arange(256) * factor + offset).clip(0, 255).astype(np.uint8).tolist()
