"""A trained CAT-Seg as a segmenter of images into named classes.

Shape legend
    n  views of an image        g  patches along a view's side        K  classes        h, w  labels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from catseg.checkpoint import load_model_weights
from catseg.config import get_catseg_cfg
from catseg.modeling import CATSeg
from catseg.modeling.inference import best_classes, segment_scores
from d2host import build_model
from d2host.engine.tensors import check_finite
from declip.data.mapper import TestMapper
from declip.evaluation.zero_shot import Vocabulary
from declip.models.patch_map import PatchMap
from declip.models.windows import WindowGrid
from declip.models.zero_shot_classifier import ClassEmbeddings, KeptEmbeddings
from declip.segmenter import EncodedImage, Segmenter

KEPT_NAMES = 500  # of up to 80 prompts each


@dataclass(frozen=True)
class SeenViews:
    """What the head is given of an image.

    Attributes:
        content: n×C×g×g features of the views, the whole image last.
        guidance: of two blocks, n×D×g×g.
        name: of the image, for messages.
    """

    content: Tensor
    guidance: list[Tensor]
    name: str


class CATSegSegmenter(Segmenter):
    """CAT-Seg as a :class:`declip.segmenter.Segmenter`; its scores are sigmoids, of every class by itself.

    Args:
        model: on its device.
        min_size, max_size: what the sides of images are resized to before the model sees them, pixels.
    """

    def __init__(self, model: CATSeg, min_size: int = 640, max_size: int = 2560) -> None:
        super().__init__(model.encoder, TestMapper(min_size, max_size, most_pixels=max_size**2))
        self.model = model.eval().requires_grad_(False)
        templates = model.class_embeddings.templates
        self.embed = KeptEmbeddings(
            model.encoder, lambda names: ClassEmbeddings(templates)(model.encoder, names), KEPT_NAMES
        )

    @classmethod
    def load(cls, config: str | Path, weights: str | Path, device: str = "cpu") -> "CATSegSegmenter":
        """The model of a config file with the weights of a checkpoint.

        Raises:
            ConfigError, CheckpointError: one of them cannot be used.
        """
        cfg = get_catseg_cfg(config, ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", device])
        model = build_model(cfg)
        load_model_weights(weights, model)
        return cls(model, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    def look(self, samples: Sequence[dict]) -> list[SeenViews]:
        """See :class:`Segmenter`."""
        model = self.model
        images = [sample["image"].to(model.device, torch.float32) for sample in samples]
        names = [sample.get("file_name", "the image") for sample in samples]
        return [SeenViews(*model.encode_views(image), name) for image, name in zip(images, names, strict=True)]

    def decide(
        self, image: EncodedImage, vocabulary: Vocabulary, with_probability: bool
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Segmenter`."""
        names, scores = best_classes(self.model.views, self._logits(image, vocabulary), image.size)
        return torch.tensor(vocabulary.owners, device=names.device)[names], scores

    def class_scores(self, image: EncodedImage, vocabulary: Vocabulary) -> Tensor:
        """The score of each class's best name."""
        return vocabulary.best(segment_scores(self.model.views, self._logits(image, vocabulary), image.size))

    def text_scores(self, image: EncodedImage, text: str) -> Tensor:
        """The score of the text as the only class."""
        return self.class_scores(image, Vocabulary(((text,),)))[0]

    def patches(self, image: EncodedImage) -> PatchMap:
        """The directions of the whole image's view."""
        content = image.seen.content[-1].float()
        grid = WindowGrid.of((self.model.side, self.model.side), 0, 1, self.model.encoder.patch_size)
        return PatchMap(content / content.norm(dim=0), grid)

    def _logits(self, image: EncodedImage, vocabulary: Vocabulary) -> Tensor:
        """Logits of all names in every view, n×N×4g×4g."""
        seen = image.seen
        logits = self.model.sem_seg_head(seen.content, seen.guidance, self.embed(vocabulary.names))
        check_finite(logits, f"the scores of {seen.name}")
        return logits
