"""A frozen encoder that is not asked twice about a training image."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from d2host.engine.digest import digest_of
from d2host.engine.precision import Precision
from d2host.engine.tensor_cache import TensorCache
from d2host.engine.tensors import check_finite
from declip.models.backbone import DenseCLIPBackbone


class CachedBackbone(DenseCLIPBackbone):
    """A frozen :class:`DenseCLIPBackbone` that keeps the maps of training images on disk, by the images' pixels.

    Maps are rounded to half precision whether they are kept or not, so that it makes no difference to a training which
    were there before. Evaluation, which sees each image once, is left alone.

    Args:
        folder: of the maps.
        limit: bytes that it may take.
        precision: that maps are computed in, for the cache's settings: others give other maps.
        backbone: as :class:`DenseCLIPBackbone`.
    """

    def __init__(self, *, folder: str | Path, limit: int, precision: Precision, **backbone: object) -> None:
        super().__init__(**backbone)
        self.folder, self.limit, self.precision = folder, limit, precision

    @cached_property
    def cache(self) -> TensorCache:
        """Opened when training begins: a whole model's weights come after it is built.

        Raises:
            ConfigError: the folder was filled by another encoder, or by other settings.
        """
        encoder = self.encoder
        settings = {
            "encoder": encoder.name,
            "weights": digest_of(encoder.state_dict()),
            "context": str(encoder.context),
            "attention scale": str(encoder.attention_scale),
            "maps": list(self.out_features),
            "stride": self.stride,
            "precision": self.precision.value,
        }
        return TensorCache(self.folder, settings, self.limit, "MODEL.ENCODER.CACHE")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """As :meth:`DenseCLIPBackbone.forward`."""
        if not self.training:
            return super().forward(images)
        grid = [side // self.stride for side in images.shape[-2:]]
        shapes = {name: (spec.channels, *grid) for name, spec in self.output_shape().items()}
        digests = [digest_of({"image": image}) for image in images]
        kept = [self.cache.get(digest, shapes) for digest in digests]
        missing = [index for index, maps in enumerate(kept) if maps is None]
        if missing:
            fresh = super().forward(images[missing])
            for row, index in enumerate(missing):
                kept[index] = {name: maps[row].half() for name, maps in fresh.items()}
                for name, maps in kept[index].items():
                    check_finite(maps, f"the features '{name}' in half precision, as MODEL.ENCODER.CACHE keeps them,")
                self.cache.put(digests[index], kept[index])
        return {name: torch.stack([maps[name].to(images) for maps in kept]) for name in shapes}
