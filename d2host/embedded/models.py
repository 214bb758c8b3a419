"""Registries of model parts and the functions that build them from a config."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from fvcore.common.registry import Registry
from torch import nn

from d2host.engine.errors import ConfigError

META_ARCH_REGISTRY = Registry("META_ARCH")
SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
BACKBONE_REGISTRY = Registry("BACKBONE")


@dataclass
class ShapeSpec:
    """What is known of a feature map before it exists."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class Backbone(nn.Module, ABC):
    """What makes named feature maps of images.

    Attributes:
        size_divisibility: pixels that both sides of its input are a multiple of; 0: any sides.
    """

    size_divisibility = 0

    @abstractmethod
    def output_shape(self) -> dict[str, ShapeSpec]:
        """Name → channels and stride of every map that ``forward`` returns."""


def registered(registry: Registry, key: str, name: str):
    """What a registry knows by a name.

    Raises:
        ConfigError: it knows nothing by that name, which was given under ``key``.
    """
    if name not in registry:
        known = ", ".join(sorted(known for known, _ in registry))
        raise ConfigError(f"{key} is '{name}', which is not registered: choose one of {known}")
    return registry.get(name)


def build_model(cfg) -> nn.Module:
    """The meta-architecture named by ``MODEL.META_ARCHITECTURE``, on ``MODEL.DEVICE``; weights are not loaded."""
    architecture = registered(META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE)
    return architecture(cfg).to(torch.device(cfg.MODEL.DEVICE))


def build_backbone(cfg, input_shape: ShapeSpec | None = None) -> nn.Module:
    """The backbone named by ``MODEL.BACKBONE.NAME``."""
    backbone = registered(BACKBONE_REGISTRY, "MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME)
    return backbone(cfg, input_shape or ShapeSpec(channels=3))


def build_sem_seg_head(cfg, input_shape) -> nn.Module:
    """The semantic-segmentation head named by ``MODEL.SEM_SEG_HEAD.NAME``."""
    return registered(SEM_SEG_HEADS_REGISTRY, "MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)
