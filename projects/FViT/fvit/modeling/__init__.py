"""The detector; importing this registers its meta-architecture."""

from fvit.modeling.meta_arch import FViT

__all__ = ["FViT"]
