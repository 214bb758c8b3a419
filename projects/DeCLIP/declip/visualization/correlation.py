"""How alike features of an image are to those at some places: the arrays, and their picture (DeCLIP, Figures 7, 9).

Shape legend
    h, w  grid of patches        N  patches, h*w        A  anchors
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor

from declip.evaluation.style import MAP_COLORS, SMALL, TITLE
from declip.models.encoder import DenseCLIP
from declip.segmentation import ImageLike
from declip.teachers.targets import cosine_affinity
from declip.visualization.inputs import ModelInput, spread_anchors
from declip.visualization.panels import PANEL_INCHES, cell_height, show_anchors, show_map
from declip.visualization.reader import Model

CONTENT, CONTEXT, FEATURES = "content", "context", "features"


@dataclass(frozen=True)
class CorrelationMaps:
    """Cosines between the features at anchors and those of all patches.

    Attributes:
        seen: the image as the model sees it.
        maps: kind of feature → A×h×w in [-1, 1]: of an encoder ``content`` and, where its last block is decoupled,
            ``context``; of a teacher ``features``.
    """

    seen: ModelInput
    maps: dict[str, np.ndarray]


def correlation_maps(
    model: Model, image: ImageLike, anchors: Sequence[tuple[float, float]], patches: int | None = None
) -> CorrelationMaps:
    """How alike the patches of an image are to those at some places.

    Several context features (queries and keys) count by the mean of their cosines, as in distillation.

    Args:
        model: an encoder or a teacher.
        image: a path, a PIL image, H×W×3 uint8 RGB, or a 3×H×W tensor.
        anchors: places (x, y) in pixels of the image.
        patches: along the longer side; None: as many as the model was made for.

    Raises:
        ConfigError: there cannot be as many patches.
        DataError: it is no image, or an anchor lies outside of it.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-declip")
    >>> found = correlation_maps(encoder, np.zeros((64, 96, 3), np.uint8), anchors=[(50, 20), (9, 9)])
    >>> {kind: maps.shape for kind, maps in found.maps.items()}
    {'content': (2, 11, 16), 'context': (2, 11, 16)}
    """
    seen = ModelInput.of(model, image, anchors, patches)
    with torch.no_grad():
        if isinstance(model, DenseCLIP):
            features = model.eval().encode_dense(seen.pixels)
            kinds = {CONTENT: [_tokens(features.content)], CONTEXT: [each[0] for each in features.context]}
        else:
            kinds = {FEATURES: [_tokens(model(seen.pixels))]}
    maps = {}
    for kind, several in kinds.items():
        cosines = [cosine_affinity(each, torch.float32).rows(list(seen.anchors)) for each in several]
        if cosines:
            mean = (sum(cosines) / len(cosines)).cpu().numpy()
            maps[kind] = mean.reshape(len(anchors), *seen.grid)
    return CorrelationMaps(seen, maps)


def _tokens(features: Tensor) -> Tensor:
    """1×C×h×w → N×C."""
    return rearrange(features, "1 c h w -> (h w) c")


def correlation(
    image: ImageLike,
    models: Mapping[str, Model],
    anchors: Sequence[tuple[float, float]] | None = None,
    patches: int | None = None,
) -> Figure:
    """A figure of how alike patches are to those at some places, by several models' features side by side.

    Args:
        image: see :func:`correlation_maps`.
        models: title → encoder or teacher.
        anchors: places (x, y) in pixels of the image; None: three on its diagonal.
        patches: see :func:`correlation_maps`.

    Raises:
        ConfigError, DataError: see :func:`correlation_maps`.

    >>> import declip
    >>> from declip.visualization import correlation
    >>> image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    >>> models = {name: declip.build_encoder("nano", name) for name in ("nano-clip", "nano-declip")}
    >>> correlation(image, models, anchors=[(40, 90)]).savefig("correlation.png")
    """
    anchors = spread_anchors(image) if anchors is None else anchors
    return draw_correlation(
        {title: correlation_maps(model, image, anchors, patches) for title, model in models.items()}
    )


def draw_correlation(found: Mapping[str, CorrelationMaps]) -> Figure:
    """Rows of anchors, columns of models and kinds of features; one scale of colours, from 0 to 1, for all."""
    seen = next(iter(found.values())).seen
    columns = [(title, kind, each) for title, each in found.items() for kind in each.maps]
    rows = max(len(seen.anchors), 1)
    size = (PANEL_INCHES * (1 + len(columns)) + 0.7, cell_height(seen) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    cells = figure.subplots(rows, 1 + len(columns), squeeze=False)
    for axes in cells.flat:
        axes.axis("off")
    for number, line in zip(range(len(seen.anchors)), cells, strict=False):
        show_map(line[0], seen.image, seen)
        show_anchors(line[0], seen, [number])
        line[0].set_title(f"anchor {number + 1}", fontsize=SMALL)
        for axes, (title, kind, each) in zip(line[1:], columns, strict=True):
            drawn = show_map(axes, each.maps[kind][number], each.seen, cmap=MAP_COLORS, vmin=0, vmax=1)
            show_anchors(axes, each.seen, [number])
            if not number:
                axes.set_title(f"{title}\n{kind}", fontsize=TITLE, parse_math=False)
    if columns and len(seen.anchors):
        bar = figure.colorbar(drawn, ax=cells, extend="min", shrink=0.8)
        bar.set_label("cosine with the anchor", fontsize=TITLE)
        bar.ax.tick_params(labelsize=SMALL)
    return figure
