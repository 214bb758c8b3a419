"""Segmenting images into classes that are named: one interface, whatever model is behind it.

Shape legend
    H, W  image        h, w  labels        K  classes        N  names        C  width of the shared image-text space

A :class:`Segmenter` looks at an image once (:meth:`Segmenter.encode`) and answers any number of questions about it. An
encoder segments by itself (:class:`declip.encoder_segmenter.EncoderSegmenter`, dense zero-shot segmentation); models
with a head join as plug-ins (``segmenters`` of :class:`declip.plugins.Plugin`), by the name of their meta-architecture.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from d2host.engine.errors import DataError
from declip.data.mapper import TestMapper
from declip.evaluation.zero_shot.vocabulary import Vocabulary
from declip.heatmap import Heatmap
from declip.models.encoder import DenseCLIP
from declip.models.patch_map import PatchMap
from declip.models.templates import check_texts
from declip.questions import Background, Region, check_class_names, region_mask, with_background
from declip.segmentation import OTHER, ImageLike, Segmentation, as_rgb, model_input

MOST_SCORES = 2**29  # numbers, 2 GiB
IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class EncodedImage:
    """An image that a segmenter has looked at; what it is asked next does not encode it again.

    Attributes:
        pixels: H×W×3 uint8 RGB.
        size: (h, w) at which labels are decided, at most :data:`declip.segmentation.LABEL_SIDE` a side.
        seen: what the segmenter keeps of it.
        segmenter: which one that was.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    seen: Any
    segmenter: "Segmenter"


class Segmenter(ABC):
    """Anything that segments images into named classes.

    Images are given as a file's path, a PIL image, H×W×3 uint8 RGB or a 3×H×W RGB tensor in 0..255, of any size, or as
    what :meth:`encode` made of them. Class names hold synonyms, ``"tv; monitor; screen"``, of which the best counts.
    Several threads may ask one segmenter at the same time, if they name the classes with each question.

    Args:
        encoder: whose features are asked; its weights stay as they are.
        mapper: resizes images for it.
    """

    def __init__(self, encoder: DenseCLIP, mapper: TestMapper) -> None:
        self.encoder, self.mapper = encoder, mapper
        self.class_names: tuple[str, ...] = ()

    def set_classes(self, names: Sequence[str]) -> None:
        """Choose the classes of questions that name none.

        Raises:
            DataError: see :func:`declip.questions.check_class_names`.
        """
        self.class_names = check_class_names(names)

    def encode(self, image: ImageLike) -> EncodedImage:
        """Look at an image.

        Raises:
            DataError: it is no image.
            CheckpointError: what the model makes of it is not finite.
        """
        return self.encode_batch([image])[0]

    @torch.no_grad()
    def encode_batch(self, images: Sequence[ImageLike] | Tensor) -> list[EncodedImage]:
        """As :meth:`encode`, of several images of any sizes: a list, or a tensor B×3×H×W."""
        pixels = [as_rgb(image) for image in images]
        samples = [model_input(each, self.mapper) for each in pixels]
        for sample, image in zip(samples, images, strict=True):
            if isinstance(image, str | Path):
                sample["file_name"] = str(image)
        sizes = [(sample["height"], sample["width"]) for sample in samples]
        return [
            EncodedImage(each, size, seen, self)
            for each, size, seen in zip(pixels, sizes, self.look(samples), strict=True)
        ]

    @torch.no_grad()
    def segment(
        self,
        image: ImageLike | EncodedImage,
        classes: Sequence[str] | None = None,
        *,
        scores: bool = False,
        background: Background | None = None,
    ) -> Segmentation:
        """The class of every pixel of an image.

        Args:
            image: see :class:`Segmenter`.
            classes: their names; None: those of :meth:`set_classes`.
            scores: whether the result has scores of all classes.
            background: what makes a pixel ``other``: a probability in (0, 1) that the best class of such pixels stays
                below, or a word, or words, that fit them better than all classes do.

        Raises:
            DataError: the image is none, the classes cannot be used or have not been chosen, or there would be too many
                scores.
        """
        names = self.class_names if classes is None else check_class_names(classes)
        if not names:
            raise DataError("no classes have been chosen: name them, or call set_classes first")
        names, vocabulary, threshold = with_background(names, background)
        image = self._encoded(image)
        if scores and len(names) * image.size[0] * image.size[1] > MOST_SCORES:
            raise DataError(
                f"{len(names):,} classes have too many scores for {image.size[1]}x{image.size[0]} pixels: ask for "
                "fewer classes, for labels alone, or about a smaller image"
            )
        labels, probability = self.decide(image, vocabulary, threshold > 0)
        if threshold > 0:
            labels = torch.where(probability < threshold, len(names), labels)
        found = self.class_scores(image, vocabulary) if scores else None
        return Segmentation.of(image.pixels, labels, names + (OTHER,) * (threshold > 0), found)

    def segment_batch(
        self, images: Sequence[ImageLike] | Tensor, classes: Sequence[str] | None = None, **options
    ) -> list[Segmentation]:
        """As :meth:`segment`, of several images of any sizes, some of them encoded together."""
        parts = [images[first : first + IMAGES_AT_ONCE] for first in range(0, len(images), IMAGES_AT_ONCE)]
        return [self.segment(image, classes, **options) for part in parts for image in self.encode_batch(part)]

    @torch.no_grad()
    def heatmap(self, image: ImageLike | EncodedImage, text: str) -> Heatmap:
        """How well a text fits each pixel, whatever else there is.

        The values are cosines of features and text, or, of a model with a head, its score in [0, 1].

        Raises:
            DataError: the image is none, or the text cannot be read.
        """
        check_texts([text], "texts")
        image = self._encoded(image)
        return Heatmap(image.pixels, self.text_scores(image, text).float().cpu().numpy(), text)

    @torch.no_grad()
    def region_embedding(self, image: ImageLike | EncodedImage, region: Region) -> Tensor:
        """The direction of a region in the space of text embeddings: C, a unit vector.

        It is the mean of the directions of the pixels, to be compared with ``encoder.encode_text(texts, True)``.

        Args:
            image: see :class:`Segmenter`.
            region: a box (x0, y0, x1, y1) in pixels, or a mask H×W of bools.

        Raises:
            DataError: the region is no such thing, or holds no pixel of the image.
        """
        image = self._encoded(image)
        mask = torch.from_numpy(region_mask(region, image.pixels.shape[:2]))
        patches = self.patches(image)
        return F.normalize(patches.mean(mask.to(patches.directions.device)), dim=0)

    @abstractmethod
    def look(self, samples: Sequence[dict]) -> list[Any]:
        """What to keep of images, each a dict with ``image`` 3×H×W in 0..255."""

    @abstractmethod
    def decide(
        self, image: EncodedImage, vocabulary: Vocabulary, with_probability: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The best class of each pixel, h×w int64, and, where it is wanted, its probability, h×w."""

    @abstractmethod
    def class_scores(self, image: EncodedImage, vocabulary: Vocabulary) -> Tensor:
        """Scores of all classes in [0, 1], K×h×w."""

    @abstractmethod
    def text_scores(self, image: EncodedImage, text: str) -> Tensor:
        """How well one text fits, h×w."""

    @abstractmethod
    def patches(self, image: EncodedImage) -> PatchMap:
        """The directions of an image's patches."""

    def _encoded(self, image: ImageLike | EncodedImage) -> EncodedImage:
        """An image, looked at if it has not been."""
        if not isinstance(image, EncodedImage):
            return self.encode(image)
        if image.segmenter is not self:
            raise DataError("the image has been encoded by another segmenter: encode it with the one that is asked")
        return image
