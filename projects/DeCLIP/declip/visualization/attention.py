"""Where tokens attend, block by block: the arrays, and their picture (DeCLIP, Figures 3, 8 and 11).

Shape legend
    h, w  grid of patches        N  patches, h*w           L  tokens, prefix (class token, registers) first
    Q     tokens asked about: the class token, then anchors         M  maps that are drawn
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure

from d2host.engine.errors import ConfigError
from declip.evaluation.style import MAP_COLORS, SMALL, TITLE
from declip.models.encoder import DenseCLIP
from declip.segmentation import ImageLike
from declip.visualization.inputs import ModelInput, spread_anchors
from declip.visualization.panels import PANEL_INCHES, cell_height, show_anchors, show_map
from declip.visualization.proxy_tokens import BlockShares, ProxyShares, draw_shares, shares_of
from declip.visualization.reader import (
    AttentionMap,
    Model,
    has_class_token,
    num_blocks,
    read_blocks,
    read_context,
)

CLASS_TOKEN, CONTEXT = "[CLS]", "context"
MOST_COLUMNS = 6  # of blocks that are drawn where none are chosen


@dataclass(frozen=True)
class AttentionMaps:
    """Where some tokens of an image attend, mean over heads.

    Attributes:
        seen: the image as the model sees it.
        tokens: Q names of the tokens asked about: ``[CLS]`` where there is one, then ``anchor 1``, ...
        rows: what is drawn, ``block 0``, ..., and ``context`` (what dense features come from) → Q×L, each row
            sums to 1.
        shares: what the most attended patches get, block by block.
    """

    seen: ModelInput
    tokens: tuple[str, ...]
    rows: dict[str, np.ndarray]
    shares: ProxyShares

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The same over the patches alone, Q×h×w: what a row lacks to 1 lies on the class token and registers."""
        height, width = self.seen.grid
        return {name: rows[:, -height * width :].reshape(len(rows), height, width) for name, rows in self.rows.items()}


def attention_maps(
    model: Model,
    image: ImageLike,
    anchors: Sequence[tuple[float, float]] = (),
    layers: Sequence[int] | None = None,
    patches: int | None = None,
) -> AttentionMaps:
    """Where the class token and the patches at some places attend.

    Blocks are those of CLIP itself, the last one too. An encoder whose last block is decoupled has one map more, of
    what its dense features come from (DeCLIP Eq. 6).

    Args:
        model: an encoder or a teacher.
        image: a path, a PIL image, H×W×3 uint8 RGB, or a 3×H×W tensor.
        anchors: places (x, y) in pixels of the image.
        layers: blocks, from 0, or from -1 backwards; None: up to six, spread evenly, the last among them.
        patches: along the longer side; None: as many as the model was made for.

    Raises:
        ConfigError: a block does not exist, or its attention cannot be read.
        DataError: it is no image, or an anchor lies outside of it.

    >>> import declip
    >>> encoder = declip.build_encoder("nano", "nano-declip")
    >>> found = attention_maps(encoder, np.zeros((64, 96, 3), np.uint8), anchors=[(50, 20)], layers=[0, -1])
    >>> found.tokens, {name: maps.shape for name, maps in found.maps.items()}
    (('[CLS]', 'anchor 1'), {'block 0': (2, 11, 16), 'block 5': (2, 11, 16), 'context': (2, 11, 16)})
    """
    chosen, seen = check_layers(model, layers), ModelInput.of(model, image, anchors, patches)
    classes = [0] if has_class_token(model) else []

    def read_rows(attention: AttentionMap) -> np.ndarray:
        prefix = attention.queries.shape[2] - seen.num_patches
        tokens = classes + [prefix + anchor for anchor in seen.anchors]
        return attention.rows(tokens)[0].mean(dim=0).cpu().numpy()

    def read(attention: AttentionMap) -> tuple[np.ndarray, BlockShares]:
        return read_rows(attention), shares_of(attention, seen.num_patches, bool(classes))

    found = read_blocks(model, seen.pixels, read)
    rows = {f"block {index}": found[index][0] for index in chosen}
    if isinstance(model, DenseCLIP) and (own := read_context(model, seen.pixels, read_rows)):
        rows[CONTEXT] = sum(own) / len(own)
    names = [CLASS_TOKEN] * len(classes) + [f"anchor {number + 1}" for number in range(len(anchors))]
    return AttentionMaps(seen, tuple(names), rows, ProxyShares.of([[shares for _, shares in found]]))


def check_layers(model: Model, layers: Sequence[int] | None) -> list[int]:
    """Blocks of a model by their numbers from 0; see :func:`attention_maps`."""
    depth = num_blocks(model)
    if layers is None:
        return sorted({round(index) for index in np.linspace(0, depth - 1, min(depth, MOST_COLUMNS))})
    for layer in layers:
        if not -depth <= layer < depth:
            raise ConfigError(f"'{model.name}' has no block {layer}: choose among its {depth}, 0 to {depth - 1}")
    return [layer % depth for layer in layers]


def attention(
    image: ImageLike,
    models: Mapping[str, Model],
    anchors: Sequence[tuple[float, float]] | None = None,
    layers: Sequence[int] | None = None,
    patches: int | None = None,
) -> Figure:
    """A figure of where models attend in an image, and of the share that the most attended patches get by block.

    Args:
        image: see :func:`attention_maps`.
        models: title → encoder or teacher, drawn one below another.
        anchors: places (x, y) in pixels of the image; None: three on its diagonal.
        layers, patches: see :func:`attention_maps`.

    Raises:
        ConfigError, DataError: see :func:`attention_maps`.

    >>> import declip
    >>> from declip.visualization import attention
    >>> image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    >>> figure = attention(image, {"nano-CLIP": declip.build_encoder("nano", "nano-clip")}, anchors=[(40, 90)])
    >>> figure.savefig("attention.png")
    """
    anchors = spread_anchors(image) if anchors is None else anchors
    found = {title: attention_maps(model, image, anchors, layers, patches) for title, model in models.items()}
    return draw_attention(found)


def draw_attention(found: Mapping[str, AttentionMaps]) -> Figure:
    """Rows of tokens and columns of blocks for each model; below, the share of the most attended patches by block."""
    columns = 1 + max(len(each.rows) for each in found.values())
    heights = [cell_height(each.seen) * max(len(each.tokens), 1) + 0.35 for each in found.values()]
    size = (max(PANEL_INCHES * columns, 5), sum(heights) + 2.6)
    figure = Figure(figsize=size, layout="constrained")
    *parts, below = figure.subfigures(len(found) + 1, 1, height_ratios=[*heights, 2.6], squeeze=False)[:, 0]
    for part, (title, each) in zip(parts, found.items(), strict=True):
        _draw_model(part, title, each, columns)
    draw_shares({title: each.shares for title, each in found.items()}, below.subplots())
    return figure


def _draw_model(part: SubFigure, title: str, found: AttentionMaps, columns: int) -> None:
    explanation = "attention, mean over heads; brightest: the panel's largest share"
    part.suptitle(f"{title}: {explanation}", fontsize=TITLE, parse_math=False)
    cells = part.subplots(max(len(found.tokens), 1), columns, squeeze=False)
    for axes in cells.flat:
        axes.axis("off")
    maps = found.maps
    for row, (token, line) in enumerate(zip(found.tokens, cells, strict=False)):
        number = row - (len(found.tokens) - len(found.seen.anchors))
        places = [number] if number >= 0 else []
        show_map(line[0], found.seen.image, found.seen)
        show_anchors(line[0], found.seen, places)
        line[0].set_title(token, fontsize=SMALL)
        for axes, (name, each) in zip(line[1:], maps.items(), strict=False):
            if name == CONTEXT and number < 0:
                continue  # dense features leave the class token out
            show_map(axes, each[row], found.seen, cmap=MAP_COLORS, vmin=0)
            show_anchors(axes, found.seen, places)
            axes.set_title(f"{name}: to {100 * each[row].max():.2g} %", fontsize=SMALL)
