"""Random changes of a training image and its label map.

Shape legend
    image   H×W×3 uint8 RGB          sem_seg  H×W int64

Every function draws from the generator it is given and from nothing else. Label maps are resized and padded in
int32, so that labels above 255 survive.
"""

import numpy as np
from PIL import Image

PAD_VALUE = 128  # grey, of image pixels beyond the border
CROP_TRIES = 10


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
        counts = np.unique(window[window != ignore_label], return_counts=True)[1]
        if single_category_max_area >= 1 or (
            len(counts) > 1 and counts.max() < counts.sum() * single_category_max_area
        ):
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

    if chance():
        image = _affine(image, 1.0, rng.uniform(-32, 32))
    contrast_first = chance()
    if contrast_first and chance():
        image = _affine(image, rng.uniform(0.5, 1.5), 0.0)
    image = _jitter_saturation_and_hue(
        image, rng.uniform(0.5, 1.5) if chance() else 1.0, rng.uniform(-18, 18) / 180 if chance() else 0.0
    )
    if not contrast_first and chance():
        image = _affine(image, rng.uniform(0.5, 1.5), 0.0)
    return image


def _affine(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    table = (np.arange(256) * factor + offset).clip(0, 255).astype(np.uint8)
    return table[image]


def _jitter_saturation_and_hue(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    if saturation == 1.0 and hue == 0.0:
        return image
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] = (np.arange(256) + round(hue * 256)).astype(np.uint8)[hsv[..., 0]]
    hsv[..., 1] = _affine(hsv[..., 1], saturation, 0.0)
    return np.asarray(Image.fromarray(hsv, mode="HSV").convert("RGB"))
