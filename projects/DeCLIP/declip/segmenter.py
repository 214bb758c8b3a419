"""Segmenting an image into classes that are named: one interface, whatever model is behind it.

Shape legend
    H, W  image        K  classes

A :class:`Segmenter` is told class names, then images. An encoder segments by itself (:class:`EncoderSegmenter`, dense
zero-shot segmentation); models with a head join as plug-ins (``segmenters`` of :class:`declip.plugins.Plugin`), by the
name of their meta-architecture.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from d2host.engine.atomic import replacing
from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.config_file import read_yaml
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from d2host.engine.keys import shown
from d2host.engine.setup import resolve_device
from declip.data.mapper import TestMapper
from declip.data.palette import class_palette
from declip.data.reading import read_image
from declip.evaluation import visualizer
from declip.evaluation.zero_shot import Vocabulary, ZeroShotSegmenter, known_presets, protocol_of
from declip.evaluation.zero_shot.protocol import Protocol as ZeroShotProtocol
from declip.models.encoder import DenseCLIP
from declip.models.factory import build_encoder
from declip.models.zero_shot_classifier import Templates, embed_names
from declip.plugins import from_plugins
from declip.weights.files import read_metadata

ImageLike = str | Path | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Segmentation:
    """An image and the class of each of its pixels; a notebook shows it as a picture.

    Attributes:
        image: H×W×3 uint8 RGB.
        labels: H×W int64, indices into ``class_names``.
        class_names: K names.
    """

    image: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Class name → H×W bool."""
        return {name: self.labels == index for index, name in enumerate(self.class_names)}

    @cached_property
    def areas(self) -> dict[str, float]:
        """Class name → its share of the image, in [0, 1]."""
        return {name: float(mask.mean()) for name, mask in self.masks.items()}

    def overlay(self) -> Image.Image:
        """The image at its own size, its classes laid over it in their colours."""
        return Image.fromarray(visualizer.paint(self.image, self.labels, self._colors))

    def figure(self) -> Figure:
        """The image, its classes and a legend side by side."""
        row = visualizer.Segmentation(self.image, {"prediction": self.labels})
        return visualizer.draw([row], self.class_names, self._colors)

    def save(self, path: str | Path) -> None:
        """Write :meth:`figure` as a picture, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(path) as temporary:
            self.figure().savefig(temporary, dpi=130)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.figure().savefig(content, format="png", dpi=110)
        return content.getvalue()

    @property
    def _colors(self) -> np.ndarray:
        return np.asarray(class_palette(len(self.class_names)), dtype=np.float32)


class Segmenter(Protocol):
    """Anything that segments an image into named classes."""

    def set_classes(self, names: Sequence[str]) -> None:
        """Choose the classes that :meth:`segment` tells apart.

        Raises:
            DataError: there are none, or one is named twice.
        """

    def segment(self, image: ImageLike) -> Segmentation:
        """Segment one image: a file's path, a PIL image, H×W×3 uint8 RGB, or a 3×H×W RGB tensor in 0..255.

        Raises:
            DataError: it is no such image, or no classes have been chosen.
        """


class EncoderSegmenter:
    """Dense zero-shot segmentation by an encoder alone, as a :class:`Segmenter`.

    Args:
        encoder: on its device.
        protocol: how an image is looked at.
        templates: what class names are put into.

    >>> import declip
    >>> segmenter = EncoderSegmenter(declip.build_encoder("nano", "nano-declip"), protocol_of("nano", ""))
    >>> segmenter.set_classes(["grass", "red ball"])
    >>> segmenter.segment(np.full((64, 96, 3), 90, np.uint8)).labels.shape
    (64, 96)
    """

    def __init__(
        self,
        encoder: DenseCLIP,
        protocol: ZeroShotProtocol | None = None,
        templates: Templates = Templates.IMAGENET,
    ) -> None:
        self.encoder, self.protocol, self.templates = encoder.eval(), protocol or ZeroShotProtocol(), templates
        self.model: ZeroShotSegmenter | None = None

    def set_classes(self, names: Sequence[str]) -> None:
        """See :class:`Segmenter`; of names separated by ``;`` or ``,`` the most probable counts."""
        self.class_names = check_class_names(names)
        vocabulary = Vocabulary.of(list(self.class_names))
        embeddings = embed_names(self.encoder, vocabulary.names, self.templates)
        self.model = ZeroShotSegmenter(self.encoder, embeddings, vocabulary, self.protocol)

    def segment(self, image: ImageLike) -> Segmentation:
        """See :class:`Segmenter`."""
        if self.model is None:
            raise DataError("no classes have been chosen: call set_classes with their names first")
        pixels = as_rgb(image)
        sample = TestMapper(self.protocol.short_side, max_size=10_000).resize(pixels)
        return Segmentation(pixels, self.model([sample])[0]["sem_seg"].cpu().numpy(), self.class_names)


def load_segmenter(
    model: str | Path, weights: str | Path | None = None, *, context: str | None = None, device: str = "auto"
) -> Segmenter:
    """A segmenter by what there is of it.

    Args:
        model: the output directory of a training (its newest checkpoint is taken), one of its checkpoints, weights of
            an encoder written by this project (``.safetensors``), or the name of an encoder.
        weights: of an encoder by name: a file, an open_clip tag, or a plug-in's name; None: a plug-in's own.
        context: how the last block of an encoder attends; None: as its weights say.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        ConfigError, CheckpointError: the model or its weights cannot be had.
    """
    path, device = Path(model), resolve_device(device)
    if path.is_dir() or path.suffix in (".pth", ".pt"):
        if weights is not None or context is not None:
            raise ConfigError(f"{path} is a trained model, which has its weights and context: leave these options out")
        return _load_run(path, device)
    if path.suffix == ".safetensors":
        name = read_metadata(path).get("model")
        if not name:
            raise CheckpointError(
                f"{path} does not say whose weights it holds: give an encoder's name, and it as weights"
            )
        model, weights = name, path
    added = from_plugins("encoders")
    if weights is None and str(model) in added:
        weights = added[str(model)].weights
    encoder = build_encoder(str(model), str(weights or ""), context).to(device)
    preset = str(model) if str(model) in known_presets() else "declip"
    return EncoderSegmenter(encoder, protocol_of(preset, ""))


def _load_run(path: Path, device: str) -> Segmenter:
    """The model of a training, by the meta-architecture that its ``config.yaml`` names."""
    folder = path if path.is_dir() else path.parent
    weights = RunCheckpointer(folder).last() if path.is_dir() else path
    config = folder / "config.yaml"
    if not config.is_file() or weights is None or not weights.is_file():
        raise CheckpointError(
            f"{path} is no trained model: give a training's output directory (config.yaml, checkpoint)"
        )
    model, known = read_yaml(config).get("MODEL"), from_plugins("segmenters")
    architecture = model.get("META_ARCHITECTURE") if isinstance(model, dict) else None
    if not isinstance(architecture, str) or architecture not in known:
        raise CheckpointError(
            f"{config} names no model that segments: its MODEL.META_ARCHITECTURE is {shown(architecture)}, known are "
            f"{', '.join(known)}"
        )
    return known[architecture](config, weights, device)


def segment(image: ImageLike, names: Sequence[str], model: str | Path, **options) -> Segmentation:
    """Segment one image into named classes; for more than one, keep a segmenter (:func:`load_segmenter`).

    Args:
        image: as :meth:`Segmenter.segment` takes it.
        names: of the classes.
        model, options: as of :func:`load_segmenter`.

    >>> result = segment(np.full((64, 96, 3), 90, np.uint8), ["grass", "red ball"], model="nano")
    >>> result.overlay().size, round(sum(result.areas.values()), 3)
    ((96, 64), 1.0)
    """
    segmenter = load_segmenter(model, **options)
    segmenter.set_classes(names)
    return segmenter.segment(image)


def check_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        DataError: there are none, one is empty or named twice, or they are a single string.
    """
    if isinstance(names, str):
        raise DataError(f"class names are a list of strings, not the string {names!r}: put it into brackets")
    stripped = tuple(str(name).strip() for name in names)
    twice = sorted({name for name in stripped if stripped.count(name) > 1})
    if not stripped or not all(stripped) or twice:
        trouble = f"'{twice[0]}' is named twice" if twice else "there are none, or one is empty"
        raise DataError(f"these class names cannot be used, {trouble}: name each class once")
    return stripped


def as_rgb(image: ImageLike) -> np.ndarray:
    """An image of any kind as H×W×3 uint8 RGB, upright.

    Raises:
        DataError: it is none, or its values are not in 0 to 255 (or, of floats, all in 0 to 1).
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    array = image
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        array = image.detach().cpu().numpy().transpose(1, 2, 0)
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        kind = tuple(getattr(image, "shape", ())) or type(image).__name__
        raise DataError(f"{kind} is no image: give a path, a PIL image, H×W×3 uint8 RGB, or a 3×H×W tensor")
    if array.min() < 0 or array.max() > 255 or (array.dtype.kind == "f" and array.max() <= 1):
        raise DataError(f"an image of values from {array.min()} to {array.max()} cannot be used: give 0 to 255")
    return np.ascontiguousarray(array.astype(np.uint8))
