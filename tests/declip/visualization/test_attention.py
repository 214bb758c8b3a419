import numpy as np
import pytest
import torch

import declip
from d2host.engine.errors import ConfigError
from declip.teachers.foundation import FoundationTeacher
from declip.visualization import attention, attention_maps, draw_attention
from declip.visualization.reader import read_blocks

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
ANCHORS = [(100, 10), (20, 90)]


@pytest.fixture(scope="module")
def encoder():
    return declip.build_encoder("nano", "nano-clip", context="qk")


def test_rows_sum_to_one_and_are_those_of_the_blocks(encoder):
    found = attention_maps(encoder, IMAGE, ANCHORS, layers=[1, -1])
    assert list(found.rows) == ["block 1", "block 5", "context"]
    assert found.tokens == ("[CLS]", "anchor 1", "anchor 2")
    for rows in found.rows.values():
        assert rows.shape == (3, 1 + 12 * 16)
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)
    whole = read_blocks(encoder, found.seen.pixels, lambda block: block.rows(slice(None)).mean(dim=1)[0])
    tokens = [0, *(1 + anchor for anchor in found.seen.anchors)]
    torch.testing.assert_close(torch.tensor(found.rows["block 1"]), whole[1][tokens])
    np.testing.assert_array_equal(found.maps["block 5"][1].ravel(), found.rows["block 5"][1, 1:])


def test_the_context_is_the_mean_of_its_two_maps(encoder):
    found = {
        context: attention_maps(declip.build_encoder("nano", "nano-clip", context), IMAGE, ANCHORS).rows["context"]
        for context in ("q", "k", "qk")
    }
    np.testing.assert_allclose(found["qk"], (found["q"] + found["k"]) / 2, rtol=1e-5)


def test_a_block_of_clip_has_no_context_beside_it():
    encoder = declip.build_encoder("nano", "nano-clip", "vanilla")
    assert "context" not in attention_maps(encoder, IMAGE, ANCHORS).rows


def test_six_blocks_are_drawn_where_none_are_chosen(small_encoder):
    teacher = FoundationTeacher("vit_tiny_patch16_224", "random")
    names = list(attention_maps(teacher, IMAGE, ANCHORS, patches=4).rows)
    assert names == [f"block {index}" for index in (0, 2, 4, 7, 9, 11)]
    assert list(attention_maps(small_encoder("siglip"), IMAGE, ANCHORS).rows)[:3] == ["block 0", "block 1", "block 2"]


def test_a_model_without_class_token_is_asked_about_anchors_alone(small_encoder):
    found = attention_maps(small_encoder("siglip"), IMAGE, ANCHORS)
    assert found.tokens == ("anchor 1", "anchor 2") and np.isnan(found.shares.by_class_token).all()
    assert found.rows["block 0"].shape[1] == found.seen.num_patches


@pytest.mark.parametrize("layer", [6, -7])
def test_a_block_that_does_not_exist_is_named(encoder, layer):
    with pytest.raises(ConfigError, match=f"'nano' has no block {layer}: choose among its 6, 0 to 5"):
        attention_maps(encoder, IMAGE, ANCHORS, layers=[0, layer])


def test_a_figure_has_a_row_per_token_and_a_column_per_block(encoder, tmp_path):
    models = {"$a$": encoder, "teacher": FoundationTeacher("nano-vfm")}
    figure = attention(IMAGE, models, ANCHORS[:1], layers=[2])
    titles = [axes.get_title() for axes in figure.axes]
    assert sum(title.startswith("block 2: to ") for title in titles) == 4
    assert sum(title.startswith("context: to ") for title in titles) == 1  # no class token comes out of it
    assert figure.axes[-1].get_ylabel() == "%"
    for suffix in ("png", "svg"):
        figure.savefig(tmp_path / f"x.{suffix}")
        assert (tmp_path / f"x.{suffix}").stat().st_size > 10_000


def test_an_image_of_any_shape_is_drawn_within_bounds(encoder):
    for size in ((1, 900), (900, 1)):
        image = np.zeros((*size, 3), np.uint8)
        figure = draw_attention({"a": attention_maps(encoder, image, [(0, 0)], layers=[0])})
        figure.draw_without_rendering()
        assert max(figure.get_size_inches()) < 12
