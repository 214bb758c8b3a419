"""How the project's figures look: colours that colour-blind people tell apart, and curves that print in grey."""

from collections.abc import Iterable

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Eight colours that all kinds of colour vision tell apart (Okabe and Ito, 2008)."""

DASHES, MARKERS = ("-", "--", ":"), ("o", "s", "^", "D", "v", "P", "X", "*")
MAP_COLORS = "cividis"  # of maps: even steps of lightness, the same to all kinds of colour vision
TITLE, SMALL = 9, 7  # sizes of fonts, points


def line_style(index: int) -> dict[str, str]:
    """Colour, dashes and marker of the curve of a number: no two of the first 24 share colour and dashes.

    >>> line_style(1)
    {'color': '#e69f00', 'linestyle': '-', 'marker': 's'}
    """
    count = len(OKABE_ITO)
    return {
        "color": OKABE_ITO[index % count],
        "linestyle": DASHES[index // count % len(DASHES)],
        "marker": MARKERS[index % count],
    }


def add_legend(place: Figure | Axes, entries: Iterable[tuple[str, Artist]], **options) -> Legend:
    """A legend of names as they are: none is a formula for its dollars, none left out for its underscore."""
    names, artists = zip(*entries, strict=True)
    legend = place.legend(artists, list(map(str, range(len(names)))), frameon=False, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend
