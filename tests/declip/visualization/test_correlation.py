import numpy as np
import pytest
import torch
import torch.nn.functional as F

import declip
from declip.teachers.foundation import FoundationTeacher
from declip.visualization import correlation, correlation_maps

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
ANCHORS = [(100, 10), (20, 90)]


@pytest.fixture(scope="module")
def encoder():
    return declip.build_encoder("nano", "nano-declip", context="qk").eval()


@pytest.fixture(scope="module")
def teacher():
    return FoundationTeacher("nano-vfm")


def cosines(features, anchors):
    """Of features 1×C×h×w."""
    units = F.normalize(features[0].flatten(1), dim=0)
    return (units[:, list(anchors)].T @ units).unflatten(1, features.shape[-2:])


def test_maps_are_the_cosines_with_the_anchors(encoder, teacher):
    found, taught = (correlation_maps(model, IMAGE, ANCHORS) for model in (encoder, teacher))
    with torch.no_grad():
        features = encoder.encode_dense(found.seen.pixels)
        context = [cosines(encoder.as_map(F.pad(each, (0, 0, 1, 0)), found.seen.grid), found.seen.anchors)
                   for each in features.context]  # fmt: skip
        expected = {"content": cosines(features.content, found.seen.anchors), "context": sum(context) / 2}
        own = cosines(teacher(taught.seen.pixels), taught.seen.anchors)
    assert list(found.maps) == ["content", "context"] and list(taught.maps) == ["features"]
    for kind, each in expected.items():
        np.testing.assert_allclose(found.maps[kind], each, atol=1e-5)
    np.testing.assert_allclose(taught.maps["features"], own, atol=1e-5)


def test_an_anchor_is_wholly_like_itself(encoder, teacher):
    for model in (encoder, teacher):
        found = correlation_maps(model, IMAGE, ANCHORS)
        for maps in found.maps.values():
            own = [each.flat[anchor] for each, anchor in zip(maps, found.seen.anchors, strict=True)]
            np.testing.assert_allclose(own, 1, atol=1e-5)
            assert maps.min() >= -1.0001 and maps.max() <= 1.0001


def test_a_block_as_clip_has_it_has_content_alone():
    maps = correlation_maps(declip.build_encoder("nano", "nano-clip", "vanilla"), IMAGE, ANCHORS).maps
    assert list(maps) == ["content"]


def test_models_stand_side_by_side_on_one_scale(encoder, teacher, tmp_path):
    figure = correlation(IMAGE, {"DeCLIP": encoder, "VFM": teacher}, ANCHORS, patches=8)
    drawn = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_cmap().name == "cividis"]
    assert len(drawn) == 6 and {each.get_clim() for each in drawn} == {(0, 1)}
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[1:4] == ["DeCLIP\ncontent", "DeCLIP\ncontext", "VFM\nfeatures"]
    for suffix in ("png", "svg"):
        figure.savefig(tmp_path / f"x.{suffix}")
        assert (tmp_path / f"x.{suffix}").stat().st_size > 5_000
