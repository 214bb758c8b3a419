"""Segmenting an image into classes that are named: one interface, whatever model is behind it.

Shape legend
    H, W  image        K  classes

A :class:`Segmenter` is told class names, then images. An encoder segments by itself (:class:`EncoderSegmenter`, dense
zero-shot segmentation); models with a head join as plug-ins (``segmenters`` of :class:`declip.plugins.Plugin`), by the
name of their meta-architecture.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.config_file import read_yaml
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from d2host.engine.keys import shown
from d2host.engine.setup import resolve_device
from declip.evaluation.zero_shot import Vocabulary, ZeroShotSegmenter, known_presets, protocol_of
from declip.evaluation.zero_shot.protocol import Protocol as ZeroShotProtocol
from declip.models.encoder import DenseCLIP
from declip.models.factory import build_encoder
from declip.models.templates import check_texts
from declip.models.zero_shot_classifier import Templates, embed_names
from declip.plugins import from_plugins
from declip.segmentation import ImageLike, Segmentation, as_rgb, model_input
from declip.weights.files import read_metadata


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

    >>> import declip, numpy as np
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
        sample = model_input(pixels, self.model.mapper)
        if isinstance(image, str | Path):
            sample["file_name"] = str(image)
        return Segmentation.of(pixels, self.model([sample])[0]["sem_seg"], self.class_names)


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
    if os.path.isdir(path) or path.suffix in (".pth", ".pt"):
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

    >>> import numpy as np
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
        DataError: one is named twice, or as :func:`declip.models.templates.check_texts`.
    """
    stripped = tuple(name.strip() for name in check_texts(names, "class names"))
    twice = [name for name, count in Counter(stripped).items() if count > 1]
    if twice:
        raise DataError(f"these class names cannot be used, '{twice[0]}' is named twice: name each class once")
    return stripped
