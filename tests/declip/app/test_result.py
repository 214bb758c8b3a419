import base64
import io
import re

import numpy as np
import torch
from PIL import Image

from declip.app.result import result_html
from declip.segmentation import Segmentation


def html_of(labels, names):
    image = np.full((*labels.shape, 3), 90, np.uint8)
    return result_html(Segmentation.of(image, labels, names), "nano, 0.1 s")


def test_the_legend_has_the_share_of_each_class_the_largest_first():
    html = html_of(torch.tensor([[0, 1, 1, 1]]), ["grass", "sky", "car"])
    assert re.findall(r"</i>(\w+)</th>", html) == ["sky", "grass"]
    assert re.findall(r"<span>([\d.]+ %)</span>", html) == ["75.0 %", "25.0 %"]
    assert "Not found: car" in html
    assert 'aria-label="Segmentation: sky 75.0 %, grass 25.0 %"' in html


def test_the_labels_that_the_browser_colours_are_those_of_the_result():
    labels = torch.arange(200).view(10, 20)
    html = html_of(labels, [f"thing {index}" for index in range(200)])
    content = base64.b64decode(re.search(r'data-labels="data:image/png;base64,([^"]*)"', html)[1])
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert shown.shape == (250, 500) and np.array_equal(shown[::25, ::25], labels.numpy())


def test_names_are_escaped():
    html = html_of(torch.zeros(2, 2), ['<script>alert("x")</script>', "'\"><b>"])
    assert "<script" not in html and "<b>" not in html.replace('<b style="', "")
