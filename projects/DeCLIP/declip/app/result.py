"""A segmentation as a piece of the page: the picture, and a legend with the share of each class.

The browser colours the labels, so that opacity and what is pointed at change at once, without a question to the server.
"""

import base64
import io
import json
from html import escape

import numpy as np
from PIL import Image

from declip.data.mapper import fitted, resize_image, resize_labels
from declip.evaluation.visualizer import OPACITY
from declip.segmentation import Segmentation

LEAST_SIDE, MOST_SIDE = 512, 1280  # of the longer side as it is shown, pixels

PLACEHOLDER = '<p class="empty">The picture appears here.</p>'

PAGE = """
<figure class="segmentation" data-names="{names}" data-colors="{colors}" data-labels="{labels}">
  <figcaption>{caption}</figcaption>
  <div class="stage">
    <img class="photo" alt="The photo" src="{photo}">
    <canvas role="img" aria-label="{summary}" width="{width}" height="{height}"></canvas>
    <div class="tip" hidden></div>
  </div>
  <label class="opacity"><span>Opacity</span><input type="range" min="0" max="100" value="{opacity}"></label>
  <table class="legend">
    <caption>Classes by their share of the picture</caption>
    <thead><tr><th scope="col">Class</th><th scope="col">Share</th></tr></thead>
    <tbody>{rows}</tbody>
  </table>
  {missing}
</figure>
"""

ROW = (
    '<tr tabindex="0" data-class="{index}"><th scope="row"><i style="background: rgb{color}"></i>{name}</th>'
    '<td><b style="width: {share:.1f}%; background: rgb{color}"></b><span>{share:.1f} %</span></td></tr>'
)


def result_html(result: Segmentation, caption: str) -> str:
    """A segmentation as HTML; names are escaped.

    Args:
        result: of at most 256 classes.
        caption: plain text above the picture.
    """
    size = shown_size(result.labels.shape)
    shares = sorted(enumerate(result.areas.values()), key=lambda item: -item[1])
    found = [(index, share) for index, share in shares if share > 0]
    missing = [result.class_names[index] for index, share in shares if not share]
    names, colors = result.class_names, result.colors
    summary = ", ".join(f"{names[index]} {100 * share:.1f} %" for index, share in found)
    rows = [
        ROW.format(index=index, color=colors[index], name=escape(names[index]), share=100 * share)
        for index, share in found
    ]
    labels = resize_labels(result.labels.astype(np.uint8), size)
    return PAGE.format(
        names=escape(json.dumps(names)),
        colors=escape(json.dumps(colors)),
        labels=data_uri(Image.fromarray(labels), "PNG"),
        photo=data_uri(Image.fromarray(resize_image(result.image, size)), "JPEG"),
        caption=escape(caption),
        summary=escape(f"Segmentation: {summary}"),
        width=size[1],
        height=size[0],
        opacity=round(100 * OPACITY),
        rows="".join(rows),
        missing=f'<p class="missing">Not found: {escape(", ".join(missing))}</p>' if missing else "",
    )


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) at which an image of a size is shown: small ones are enlarged a whole number of times.

    >>> shown_size((128, 128)), shown_size((480, 640)), shown_size((3000, 4000))
    ((512, 512), (480, 640), (960, 1280))
    """
    factor = max(LEAST_SIDE // max(size), 1)
    return fitted((size[0] * factor, size[1] * factor), MOST_SIDE)


def data_uri(image: Image.Image, kind: str) -> str:
    """A picture as text that an ``img`` shows."""
    content = io.BytesIO()
    image.save(content, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
