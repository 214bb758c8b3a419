"""Segmenters by what there is of them: an encoder alone, or a trained model.

Shape legend
    N  names        K  classes        h, w  labels
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from d2host.engine.checkpoint import RunCheckpointer
from d2host.engine.config_file import read_yaml
from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.keys import shown
from d2host.engine.setup import resolve_device
from declip.evaluation.zero_shot import PatchEncoder, Protocol, Vocabulary, known_presets, protocol_of
from declip.evaluation.zero_shot.segmenter import most_probable
from declip.models.encoder import DenseCLIP
from declip.models.factory import build_encoder
from declip.models.patch_map import PatchMap
from declip.models.zero_shot_classifier import KeptEmbeddings, Templates, embed_names
from declip.plugins import from_plugins
from declip.segmentation import ImageLike, Segmentation
from declip.segmenter import EncodedImage, Segmenter
from declip.weights.files import read_metadata


class EncoderSegmenter(Segmenter):
    """Dense zero-shot segmentation by an encoder alone, as a :class:`Segmenter`.

    Args:
        encoder: on its device.
        protocol: how an image is looked at.
        templates: what class names are put into.

    >>> import declip, numpy as np
    >>> segmenter = EncoderSegmenter(declip.build_encoder("nano", "nano-declip"), protocol_of("nano", ""))
    >>> photo = segmenter.encode(np.full((64, 96, 3), 90, np.uint8))
    >>> segmenter.segment(photo, ["grass", "red circle; red ball"]).labels.shape
    (64, 96)
    >>> segmenter.segment(photo, ["water", "sky"], background="wood", scores=True).scores.shape
    (3, 64, 96)
    >>> segmenter.heatmap(photo, "a red circle").values.shape
    (64, 96)
    >>> segmenter.region_embedding(photo, (10, 10, 40, 40)) @ segmenter.encoder.encode_text(["grass"], True).T
    tensor([...])
    """

    def __init__(
        self, encoder: DenseCLIP, protocol: Protocol | None = None, templates: Templates = Templates.IMAGENET
    ) -> None:
        self._look = PatchEncoder(encoder.eval().requires_grad_(False), protocol or Protocol())
        super().__init__(encoder, self._look.mapper)
        self.embed = KeptEmbeddings(encoder, lambda names: embed_names(encoder, names, templates))

    def look(self, samples: Sequence[dict]) -> list[PatchMap]:
        """See :class:`Segmenter`."""
        return [found[self.encoder.context] for found in self._look.encode(samples, [self.encoder.context])]

    def decide(
        self, image: EncodedImage, vocabulary: Vocabulary, with_probability: bool
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Segmenter`."""
        protocol, background = self._look.protocol, vocabulary.background
        unsure = protocol.threshold > 0 and background is not None
        cosines, way_back = image.seen.cosines(self.embed(vocabulary.names)), image.seen.way_back(image.size)
        owners = torch.tensor(vocabulary.owners, device=cosines.device)
        labels, probability = most_probable(cosines, way_back, owners, protocol.logit_scale, with_probability or unsure)
        if unsure:
            labels[probability < protocol.threshold] = background
        return labels, probability

    def class_scores(self, image: EncodedImage, vocabulary: Vocabulary) -> Tensor:
        """The probability of each class's best name."""
        cosines = image.seen.enlarge(image.seen.cosines(self.embed(vocabulary.names)), image.size)
        return vocabulary.best((self._look.protocol.logit_scale * cosines).softmax(dim=0))

    def text_scores(self, image: EncodedImage, text: str) -> Tensor:
        """The cosine of each pixel with the text as it stands."""
        embedding = self.encoder.encode_text([text], normalize=True).float()
        return image.seen.enlarge(image.seen.cosines(embedding), image.size)[0]

    def patches(self, image: EncodedImage) -> PatchMap:
        """See :class:`Segmenter`."""
        return image.seen


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

    >>> segmenter = load_segmenter("nano")
    >>> type(segmenter).__name__, segmenter.encoder.name
    ('EncoderSegmenter', 'nano')
    """
    path, device = Path(model), resolve_device(device)
    if os.path.isdir(path) or path.suffix in (".pth", ".pt"):
        if weights is not None or context is not None:
            raise ConfigError(f"{path} is a trained model, which has its weights and context: leave these options out")
        return _load_run(path, device)
    if path.suffix == ".safetensors":
        if weights is not None:
            raise ConfigError(f"{path} is weights, and {weights} are given as weights, too: leave one of them out")
        name = read_metadata(path).get("model")
        if not name:
            raise CheckpointError(
                f"{path} does not say whose weights it holds: give an encoder's name, and it as weights"
            )
        model, weights = name, path
    elif os.path.exists(path):
        raise CheckpointError(
            f"{path} is no model: give a training's output directory, a checkpoint (.pth), weights of an encoder "
            "(.safetensors), or the name of an encoder"
        )
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


def segment(
    image: ImageLike,
    names: Sequence[str],
    model: str | Path,
    weights: str | Path | None = None,
    *,
    context: str | None = None,
    device: str = "auto",
    **options,
) -> Segmentation:
    """Segment one image into named classes; for more than one, keep a segmenter (:func:`load_segmenter`).

    Args:
        image: as :meth:`Segmenter.segment` takes it.
        names: of the classes.
        model, weights, context, device: as of :func:`load_segmenter`.
        options: ``scores``, ``background``, as of :meth:`Segmenter.segment`.

    >>> import numpy as np
    >>> result = segment(np.full((64, 96, 3), 90, np.uint8), ["grass", "red ball"], model="nano")
    >>> result.overlay().size, round(sum(result.areas.values()), 3)
    ((96, 64), 1.0)
    """
    segmenter = load_segmenter(model, weights, context=context, device=device)
    return segmenter.segment(image, names, **options)
