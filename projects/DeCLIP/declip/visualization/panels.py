"""Panels of images and maps with the places that are asked about marked on them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from declip.evaluation.style import OKABE_ITO
from declip.visualization.inputs import ModelInput

PANEL_INCHES = 1.5
SHAPES = (0.4, 1.6)  # height by width of a panel; what is longer is stretched to it


def cell_height(seen: ModelInput) -> float:
    """Inches of a panel of an image, its title included."""
    return PANEL_INCHES * _shape(seen) + 0.2


def show_map(axes: Axes, panel: np.ndarray, seen: ModelInput, **options) -> AxesImage:
    """Draw an image, or a map of patches, over the unit square; every patch is one even field."""
    return axes.imshow(panel, extent=(0, 1, 1, 0), aspect=_shape(seen), interpolation="nearest", **options)


def show_anchors(axes: Axes, seen: ModelInput, which: Sequence[int]) -> None:
    """Ring anchors, each in its colour."""
    for number in which:
        place = seen.centre(seen.anchors[number])
        axes.plot(*place, marker="o", markersize=7, markerfacecolor="none", markeredgecolor="white", markeredgewidth=3)
        color = anchor_color(number)
        axes.plot(*place, marker="o", markersize=7, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.6)


def anchor_color(number: int) -> str:
    """The colour of an anchor by its number from 0."""
    return OKABE_ITO[:6][(number + 5) % 6]


def _shape(seen: ModelInput) -> float:
    height, width = seen.grid
    return float(np.clip(height / width, *SHAPES))
