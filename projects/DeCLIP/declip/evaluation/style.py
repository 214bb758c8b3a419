"""How the project's figures look: colours that colour-blind people tell apart, and curves that print in grey."""

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
