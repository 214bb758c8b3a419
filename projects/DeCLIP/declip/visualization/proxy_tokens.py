"""Proxy tokens: how much of all attention a few patches get, block by block (DeCLIP, Sec. 3.1 and Figure 3).

Shape legend
    I  images        M  blocks of a model        N  patches

In deep layers of CLIP the class token and the patches attend to the same few patches, which often lie in the
background, instead of to those that belong with them. Even attention gives the most attended 2 % of all patches 2 % of
it, and so does attention of each patch to itself; more than that is what patches agree on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import Tensor

from d2host.engine.errors import DataError
from declip.evaluation.style import SMALL, TITLE, add_legend, line_style
from declip.segmentation import ImageLike
from declip.visualization.inputs import ModelInput
from declip.visualization.reader import AttentionMap, Model, has_class_token, read_blocks

FRACTION = 0.02


class BlockShares(NamedTuple):
    """How much of the attention to patches the most attended few get in one block of one image, in [0, 1].

    Attributes:
        by_patches: of what all patches pay together.
        by_class_token: of what the class token pays; NaN where there is none.
        on_prefix: what patches pay to class token and registers, of all that they pay.
        even: what the few would get if all patches got the same.
    """

    by_patches: float
    by_class_token: float
    on_prefix: float
    even: float


@dataclass(frozen=True)
class ProxyShares:
    """The numbers of :class:`BlockShares` for every image and block, each I×M."""

    by_patches: np.ndarray
    by_class_token: np.ndarray
    on_prefix: np.ndarray
    even: np.ndarray

    @classmethod
    def of(cls, shares: Sequence[Sequence[BlockShares]]) -> "ProxyShares":
        """From each image's blocks."""
        return cls(*np.moveaxis(np.asarray(shares, dtype=np.float64), -1, 0))


def shares_of(attention: AttentionMap, num_patches: int, class_token: bool, fraction: float = FRACTION) -> BlockShares:
    """The shares in one block of one image.

    Args:
        attention: of the block.
        num_patches: N, the last tokens.
        class_token: whether the first token is one.
        fraction: of the patches that count as few; at least one patch.
    """
    prefix, few = attention.queries.shape[2] - num_patches, max(round(fraction * num_patches), 1)

    def share(paid: Tensor) -> float:
        return (paid[prefix:].topk(few).values.sum() / paid[prefix:].sum()).item()

    received = attention.received(prefix)[0]
    by_class_token = share(attention.rows([0])[0, :, 0].mean(dim=0)) if class_token else float("nan")
    return BlockShares(share(received), by_class_token, received[:prefix].sum().item(), few / num_patches)


def proxy_shares(
    model: Model, images: Iterable[ImageLike], patches: int | None = None, fraction: float = FRACTION
) -> ProxyShares:
    """How much of a model's attention few patches get in each image, block by block.

    Every image is looked at by itself; no map of all patches is held. Blocks are those of CLIP itself.

    Args:
        model: an encoder or a teacher.
        images: see :func:`declip.segmentation.as_rgb`.
        patches: along the longer side; None: as many as the model was made for.
        fraction: of the patches that count as few.

    Raises:
        ConfigError, DataError: as of :func:`declip.visualization.attention_maps`.

    >>> import declip
    >>> images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    >>> shares = proxy_shares(declip.build_encoder("nano", "nano-clip"), images)
    >>> shares.by_patches.shape, bool((shares.by_patches >= shares.even).all())
    ((2, 6), True)
    """
    class_token, found = has_class_token(model), []
    for image in images:
        seen = ModelInput.of(model, image, patches=patches)
        read = partial(shares_of, num_patches=seen.num_patches, class_token=class_token, fraction=fraction)
        found.append(read_blocks(model, seen.pixels, read))
    if not found:
        raise DataError("there is no image whose attention could be measured: give at least one")
    return ProxyShares.of(found)


def proxy_tokens(
    images: Sequence[ImageLike],
    models: Mapping[str, Model],
    patches: int | None = None,
    fraction: float = FRACTION,
) -> Figure:
    """A figure of how much of models' attention few patches get by block: mean and deviation over images.

    Args:
        images, patches, fraction: see :func:`proxy_shares`.
        models: title → encoder or teacher.

    >>> import declip
    >>> from declip.visualization import proxy_tokens
    >>> images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    >>> proxy_tokens(images, {"nano-CLIP": declip.build_encoder("nano", "nano-clip")}).savefig("proxies.svg")
    """
    return draw_proxy_tokens({title: proxy_shares(model, images, patches, fraction) for title, model in models.items()})


def draw_proxy_tokens(found: Mapping[str, ProxyShares]) -> Figure:
    """Shares by block, a curve per model."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    draw_shares(found, figure.subplots())
    return figure


def shares_table(found: Mapping[str, ProxyShares]) -> str:
    """Shares in percent as a Markdown table: a row for each block of each model, means over images."""
    rows = []
    for title, shares in found.items():
        means = [100 * each.mean(axis=0) for each in (shares.by_patches, shares.by_class_token, shares.on_prefix)]
        rows += [[title, block, *values] for block, values in enumerate(zip(*means, strict=True))]
    headers = ["model", "block", "by patches, %", "by [CLS], %", "patches on prefix tokens, %"]
    return tabulate(rows, headers, tablefmt="github", floatfmt=".1f")


def draw_shares(found: Mapping[str, ProxyShares], axes: Axes) -> None:
    """Curves over the depth, from a model's first block to its last: mean, and deviation where there are images."""
    lines = {}
    for number, (title, shares) in enumerate(found.items()):
        images, blocks = shares.by_patches.shape
        style = line_style(number)
        for values, what, dashes in (
            (shares.by_patches, "by patches", "-"),
            (shares.by_class_token, "by [CLS]", "--"),
        ):
            mean, spread = 100 * values.mean(axis=0), 100 * values.std(axis=0)
            if np.isnan(mean).all():
                continue
            options = {**style, "linestyle": dashes, "markersize": 4}
            (lines[f"{title}, {what}"],) = axes.plot(range(blocks), mean, **options)
            if images > 1:
                axes.fill_between(range(blocks), mean - spread, mean + spread, color=style["color"], alpha=0.12, lw=0)
    even = 100 * np.mean([shares.even.mean() for shares in found.values()])
    lines[f"even attention ({even:.2g} %)"] = axes.axhline(even, color="0.5", lw=1, ls=":")
    axes.set_title(f"share of attention on the most attended {even:.1g} % of patches", fontsize=TITLE)
    axes.set_xlabel("block", fontsize=TITLE)
    axes.set_ylabel("%", fontsize=TITLE)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.3)
    add_legend(axes, lines.items(), fontsize=SMALL, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3.5)
