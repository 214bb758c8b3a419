"""Plug-ins: encoders, teachers, diffusion models, weights, datasets and presets that other packages bring along.

A package joins by an entry point of the group ``declip.plugins`` that names a :class:`Plugin`::

    [options.entry_points]
    declip.plugins =
        street = streetworld.plugin:PLUGIN

Nothing in :mod:`declip` imports such a package; entry points are read when a name is first looked up, and what a
plug-in names is made when it is asked for. Recipes (YAML) join by the group ``d2host.configs``, see
:func:`d2host.engine.config_file.find_config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from d2host import CfgNode
    from d2host.engine import Trainer

GROUP = "declip.plugins"


@dataclass(frozen=True)
class PluginEncoder:
    """A CLIP made of open_clip's classes.

    Attributes:
        create: the model, with random weights.
        tokenizer: makes the callable that turns N texts into N×L int64 token ids.
        pixel_mean, pixel_std: of its images, RGB in [0, 1].
        weights: name of the weights to segment with where none are given; empty: they have to be given.
    """

    create: Callable[[], nn.Module]
    tokenizer: Callable[[], Callable[[list[str]], Tensor]]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    weights: str = ""


@dataclass(frozen=True)
class PluginDataset:
    """A labelled dataset.

    Attributes:
        load: data root → dataset dicts as Detectron2 has them; with ``segments_info`` and ``panoptic_file_name`` the
            dataset is a set of labelled regions, too.
        metadata: what ``MetadataCatalog`` tells of it: ``stuff_classes``, ``stuff_colors``, ``ignore_label``,
            ``evaluator_type``, and ``categories`` (COCO panoptic) where there are regions.
    """

    load: Callable[[Path], Sequence[dict]]
    metadata: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class PluginExample:
    """An image to try a model on.

    Attributes:
        image: H×W×3 uint8 RGB.
        class_names: what to look for in it.
    """

    image: np.ndarray
    class_names: Sequence[str]


@dataclass(frozen=True)
class Training:
    """How ``tools/train_net.py`` trains and evaluates a meta-architecture.

    Attributes:
        read_config: config file, overrides, and whether it is to be trained → a checked configuration, whose weights
            and datasets are there.
        build_trainer: configuration and model → trainer.
    """

    read_config: Callable[[str, Sequence[str], bool], CfgNode]
    build_trainer: Callable[[CfgNode, nn.Module], Trainer]


@dataclass(frozen=True)
class Plugin:
    """What a package adds, by name.

    Attributes:
        encoders: ``MODEL.ENCODER.NAME`` → model.
        weights: ``MODEL.ENCODER.WEIGHTS`` → file.
        teachers: ``MODEL.TEACHER.NAME`` → a function from weights (``pretrained``, ``random`` or a file's path) to a
            vision transformer of timm.
        diffusions: ``MODEL.DIFFUSION.NAME`` → folder of a diffusion model as `diffusers` writes it.
        datasets: registered name → dataset.
        presets: name → settings of zero-shot evaluation by dataset (see
            :mod:`declip.evaluation.zero_shot.protocol`); that of an encoder's name is the encoder's default.
        segmenters: ``MODEL.META_ARCHITECTURE`` → a function from a config file, a checkpoint and a device to a
            :class:`declip.segmenter.Segmenter`.
        examples: an encoder's name → a function that makes images to try it on, which the page offers.
        trainings: ``MODEL.META_ARCHITECTURE`` → a function that gives its :class:`Training`, and registers it.
    """

    encoders: Mapping[str, PluginEncoder] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    teachers: Mapping[str, Callable[[str], nn.Module]] = field(default_factory=dict)
    diffusions: Mapping[str, Path] = field(default_factory=dict)
    datasets: Mapping[str, PluginDataset] = field(default_factory=dict)
    presets: Mapping[str, Callable[[], Mapping[str, Any]]] = field(default_factory=dict)
    segmenters: Mapping[str, Callable[[Path, Path, str], Any]] = field(default_factory=dict)
    examples: Mapping[str, Callable[[], Sequence[PluginExample]]] = field(default_factory=dict)
    trainings: Mapping[str, Callable[[], Training]] = field(default_factory=dict)


@cache
def installed_plugins() -> tuple[Plugin, ...]:
    """The plug-ins of all installed packages, by the name of their entry point.

    Raises:
        ConfigError: an entry point cannot be loaded, or is no :class:`Plugin`.
    """
    plugins = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            plugin = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"plug-in '{entry.name}' ({entry.value}) cannot be loaded ({error}): repair or uninstall its package"
            ) from error
        if not isinstance(plugin, Plugin):
            raise ConfigError(f"plug-in '{entry.name}' ({entry.value}) is no declip.plugins.Plugin: repair its package")
        plugins.append(plugin)
    return tuple(plugins)


def from_plugins(kind: str) -> dict[str, Any]:
    """Everything of one kind (a field of :class:`Plugin`) that plug-ins add, by name.

    >>> sorted(from_plugins("encoders"))
    ['nano', 'nano-clip-12']

    Raises:
        ConfigError: a plug-in cannot be had, or two add something of one name.
    """
    found: dict[str, Any] = {}
    for plugin in installed_plugins():
        added = getattr(plugin, kind)
        if both := found.keys() & added.keys():
            raise ConfigError(f"two plug-ins add {kind} called '{min(both)}': uninstall the package of one")
        found.update(added)
    return found
