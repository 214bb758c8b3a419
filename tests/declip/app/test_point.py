import numpy as np
import pytest

import declip
from declip.app.point import maps_at
from nanoworld.world import render_scene


@pytest.mark.parametrize("context", ["qk", "vanilla"])
def test_a_place_is_most_like_itself(context):
    encoder = declip.build_encoder("nano", "nano-declip", context=context).eval()
    maps = maps_at(encoder, render_scene(2, 0).image, (0.99, 1.0))
    assert list(maps) == ["attention", "correlation"][context == "vanilla" :]
    correlation = maps["correlation"].values
    assert correlation.shape == (16, 16) and correlation.argmax() == 255
    if context == "qk":
        assert maps["attention"].values.sum() == pytest.approx(1, abs=1e-4)
        assert np.isfinite(maps["attention"].values).all()
