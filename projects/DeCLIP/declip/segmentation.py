"""An image and the classes of its pixels: what a segmenter is given, and what it gives.

Shape legend
    H, W  image        K  classes
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from pycocotools import mask as coco_mask

from d2host.engine.errors import DataError
from declip.data.mapper import TestMapper, fitted, resize_image, resize_labels
from declip.data.opening import check_size
from declip.data.palette import class_palette
from declip.data.reading import read_image, upright_rgb
from declip.evaluation import visualizer

LABEL_SIDE = 2048
"""Of the longer side of an image, in pixels: labels of a larger one are decided at that size, then enlarged."""

OTHER = "other"
"""The class of pixels that no name fits, where a background was asked for."""
GREY = (150, 150, 150)

ImageLike = str | Path | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Segmentation:
    """An image and the class of each of its pixels; a notebook shows it as a picture.

    Attributes:
        image: H×W×3 uint8 RGB.
        labels: H×W, indices into ``class_names``, of the smallest unsigned integers that hold them.
        class_names: K names; the last is :data:`OTHER` where a background was asked for.
        scores: where they were asked for, float32 in [0, 1] of every class but an :data:`OTHER` that a threshold
            decides on; H×W each, or smaller (:data:`LABEL_SIDE`).
    """

    image: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    scores: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        labels: torch.Tensor,
        class_names: Sequence[str],
        scores: torch.Tensor | None = None,
    ) -> "Segmentation":
        """From labels h×w of a model, enlarged to the image's size where they are smaller (:data:`LABEL_SIDE`)."""
        small = labels.cpu().numpy().astype(np.min_scalar_type(len(class_names) - 1))
        of_classes = None if scores is None else scores.float().cpu().numpy()
        return cls(image, resize_labels(small, image.shape[:2]), tuple(class_names), of_classes)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Class name → H×W bool."""
        return {name: self.labels == index for index, name in enumerate(self.class_names)}

    @cached_property
    def areas(self) -> dict[str, float]:
        """Class name → its share of the image, in [0, 1]."""
        strips = np.array_split(self.labels.reshape(-1), -(-self.labels.size // 2**22))
        counts = sum(np.bincount(strip, minlength=len(self.class_names)) for strip in strips)
        return {name: float(count / self.labels.size) for name, count in zip(self.class_names, counts, strict=True)}

    @property
    def colors(self) -> list[tuple[int, int, int]]:
        """K RGB colours of the classes; :data:`OTHER` is grey."""
        named = len(self.class_names) - (self.class_names[-1] == OTHER)
        return [*class_palette(named), GREY][: len(self.class_names)]

    def overlay(self, opacity: float = visualizer.OPACITY) -> Image.Image:
        """The image, its classes laid over it in their colours; the longer side has at most :data:`LABEL_SIDE` pixels.

        The image keeps its own size up to there.

        Args:
            opacity: of the colours, in [0, 1].
        """
        size = fitted(self.labels.shape, LABEL_SIDE)
        labels = resize_labels(self.labels, size)
        return Image.fromarray(visualizer.paint(resize_image(self.image, size), labels, self._colors, opacity))

    def label_image(self) -> Image.Image:
        """The labels as a picture of one channel and as many bits as they need: 8 or 16, which is what PNG keeps.

        Raises:
            DataError: there are more classes than 16 bits number.
        """
        if self.labels.dtype.itemsize > 2:
            raise DataError(f"{len(self.class_names):,} classes do not fit a label picture: give at most 65,536")
        return Image.fromarray(self.labels)

    def annotations(self, image_id: int | str) -> list[dict]:
        """The classes that occur as annotations of COCO's results format: one mask each, run-length encoded.

        Args:
            image_id: what they say their image is.

        Returns:
            Per class ``image_id``, ``category_id`` (from 1), ``category_name``, ``segmentation``, ``bbox``, ``area``.
        """
        found = []
        for index in np.unique(self.labels):
            encoded = coco_mask.encode(np.asfortranarray(self.labels == index).astype(np.uint8))
            run_lengths = {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
            category = {"category_id": int(index) + 1, "category_name": self.class_names[index]}
            place = {"bbox": coco_mask.toBbox(encoded).tolist(), "area": int(coco_mask.area(encoded))}
            found.append({"image_id": image_id, **category, "segmentation": run_lengths, **place})
        return found

    def figure(self) -> Figure:
        """The image, its classes and a legend, in a size that is bounded."""
        row = visualizer.Segmentation.of(self.image, {"prediction": self.labels})
        return visualizer.draw([row], self.class_names, self._colors)

    def save(self, path: str | Path) -> None:
        """Write :meth:`figure` as a picture, whole or not at all.

        Raises:
            DataError: it cannot be written, or its ending is no format of pictures.
        """
        visualizer.save_figure(self.figure(), path)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.figure().savefig(content, format="png", dpi=110)
        return content.getvalue()

    @property
    def _colors(self) -> np.ndarray:
        return np.asarray(self.colors, dtype=np.float32)


def model_input(pixels: np.ndarray, mapper: TestMapper) -> dict:
    """An image H×W×3 uint8 as the input of a model that is to say labels, of at most :data:`LABEL_SIDE` a side."""
    height, width = fitted(pixels.shape[:2], LABEL_SIDE)
    return {**mapper.resize(pixels), "height": height, "width": width}


def as_rgb(image: ImageLike) -> np.ndarray:
    """An image of any kind as H×W×3 uint8 RGB, upright.

    Raises:
        DataError: it is none, too large, or its values are not in 0 to 255 (or, of floats, all in 0 to 1).
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return upright_rgb(image, "the PIL image")
    array = image
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        image = image.detach().cpu()
        array = (image.float() if image.is_floating_point() else image).numpy().transpose(1, 2, 0)
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 3
        or array.shape[2] != 3
        or array.dtype.kind not in "uif"
        or not array.size
    ):
        kind = tuple(getattr(image, "shape", ())) or type(image).__name__
        raise DataError(f"{kind} is no image: give a path, a PIL image, H×W×3 uint8 RGB, or a 3×H×W tensor")
    check_size(array.shape[:2], "the image")
    least, most = array.min(), array.max()
    if not 0 <= least <= most <= 255 or (array.dtype.kind == "f" and most <= 1):  # not a number is not in there, either
        raise DataError(f"an image of values from {least} to {most} cannot be used: give 0 to 255")
    return np.ascontiguousarray((array.round() if array.dtype.kind == "f" else array).astype(np.uint8, copy=False))
