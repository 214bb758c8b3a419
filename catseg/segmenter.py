"""A trained CAT-Seg as a segmenter of images into named classes."""

from collections.abc import Sequence
from pathlib import Path

import torch

from catseg.checkpoint import load_model_weights
from catseg.config import get_catseg_cfg
from catseg.modeling import CATSeg
from d2host import build_model
from d2host.engine.errors import DataError
from declip.data.mapper import TestMapper
from declip.segmentation import ImageLike, Segmentation, as_rgb, model_input
from declip.segmenter import check_class_names


class CATSegSegmenter:
    """CAT-Seg as a :class:`declip.segmenter.Segmenter`.

    Args:
        model: on its device.
        min_size, max_size: what the sides of images are resized to before the model sees them, pixels.
    """

    def __init__(self, model: CATSeg, min_size: int = 640, max_size: int = 2560) -> None:
        self.model, self.mapper = model.eval(), TestMapper(min_size, max_size, most_pixels=max_size**2)
        self.class_names: tuple[str, ...] = ()

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

    def set_classes(self, names: Sequence[str]) -> None:
        """See :class:`declip.segmenter.Segmenter`."""
        self.class_names = check_class_names(names)
        self.model.set_vocabulary(self.class_names)

    def segment(self, image: ImageLike) -> Segmentation:
        """See :class:`declip.segmenter.Segmenter`."""
        if not self.class_names:
            raise DataError("no classes have been chosen: call set_classes with their names first")
        pixels = as_rgb(image)
        with torch.no_grad():
            labels = self.model.predict_labels([model_input(pixels, self.mapper)])[0]["sem_seg"]
        return Segmentation.of(pixels, labels, self.class_names)
