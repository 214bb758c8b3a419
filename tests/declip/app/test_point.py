import numpy as np
import pytest

import declip
from declip.app.point import maps_at
from nanoworld.world import render_scene


@pytest.mark.parametrize("context", ["qk", "vanilla"])
def test_a_place_is_most_like_itself_and_attends_to_others(context):
    encoder = declip.build_encoder("nano", "nano-declip", context=context).eval()
    maps = maps_at(encoder, render_scene(2, 0).image, (0.99, 1.0))
    attention, correlation = maps["attention"].values, maps["correlation"].values
    assert correlation.shape == (16, 16) and correlation.argmax() == 255
    assert 0 < attention.sum() < 1 + 1e-4 and np.isfinite(attention).all()


def test_attention_is_that_of_dense_features_where_they_have_their_own():
    image = render_scene(2, 0).image
    last = {
        context: maps_at(declip.build_encoder("nano", "nano-declip", context=context).eval(), image, (0.5, 0.5))
        for context in ("qk", "vanilla")
    }
    assert last["qk"]["attention"].values.sum() == pytest.approx(1, abs=1e-4)  # of patches among patches
    assert last["vanilla"]["attention"].values.sum() < 1 - 1e-4  # some of it on the class token
    texts = {context: maps["attention"].text for context, maps in last.items()}
    assert texts["qk"].endswith("for dense features") and texts["vanilla"].endswith("as CLIP has it")
