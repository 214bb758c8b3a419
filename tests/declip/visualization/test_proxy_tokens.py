import numpy as np
import pytest
import torch

import declip
from d2host.engine.errors import DataError
from declip.visualization import attention_maps, draw_proxy_tokens, proxy_shares, proxy_tokens, shares_table
from declip.visualization.proxy_tokens import shares_of
from declip.visualization.reader import AttentionMap

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder():
    return declip.build_encoder("nano", "nano-clip")


def map_of(rows):
    """An attention map with given rows: keys are unit vectors, so that products are logits."""
    logits = rows.clamp_min(1e-30).log()
    return AttentionMap(logits[None, None], torch.eye(rows.shape[0])[None, None], scale=1.0)


def test_even_attention_and_attention_to_oneself_give_the_few_their_even_share():
    for rows in (torch.full((101, 101), 1 / 101), torch.eye(101)):
        shares = shares_of(map_of(rows), num_patches=100, class_token=False)
        assert shares.by_patches == pytest.approx(0.02, abs=1e-4) and shares.even == 0.02
        assert np.isnan(shares.by_class_token)


def test_what_all_patches_agree_on_is_found_and_prefix_tokens_are_left_out_of_it():
    rows = torch.full((101, 101), 0.5 / 98)
    rows[:, 0], rows[:, [10, 20]] = 0.2, 0.15  # class token; two of a hundred patches
    rows[0] = 0
    rows[0, 30] = 1.0
    rows /= rows.sum(dim=1, keepdim=True)
    shares = shares_of(map_of(rows), num_patches=100, class_token=True)
    assert shares.on_prefix == pytest.approx(0.2, abs=1e-3)
    assert shares.by_patches == pytest.approx(0.3 / 0.8, abs=1e-3)
    assert shares.by_class_token == pytest.approx(1.0)


def test_a_fraction_of_few_patches_is_at_least_one():
    shares = shares_of(map_of(torch.eye(9)), num_patches=9, class_token=False, fraction=0.02)
    assert shares.even == pytest.approx(1 / 9)


def test_shares_of_many_images_are_those_of_each(encoder):
    shares = proxy_shares(encoder, IMAGES)
    assert shares.by_patches.shape == shares.on_prefix.shape == (3, 6)
    for image, *rows in zip(IMAGES, shares.by_patches, shares.by_class_token, strict=True):
        one = attention_maps(encoder, image).shares
        np.testing.assert_allclose(rows, [one.by_patches[0], one.by_class_token[0]], rtol=1e-5)


def test_the_figure_and_the_table_have_the_means_of_the_shares(encoder, tmp_path):
    found = {"_a$": proxy_shares(encoder, IMAGES), "b": proxy_shares(encoder, IMAGES[:1], fraction=0.1)}
    axes = draw_proxy_tokens(found).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * found["_a$"].by_patches.mean(axis=0))
    np.testing.assert_allclose(axes.lines[3].get_ydata(), 100 * found["b"].by_class_token[0])
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[:2] == ["_a$, by patches", "_a$, by [CLS]"] and len(names) == 5
    row = shares_table(found).splitlines()[2].split("|")
    assert [float(each) for each in row[2:4]] == [0, round(100 * found["_a$"].by_patches[:, 0].mean(), 1)]
    proxy_tokens(IMAGES[:1], {"a": encoder}).savefig(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size > 5_000


def test_no_image_is_refused(encoder):
    with pytest.raises(DataError, match="no image"):
        proxy_shares(encoder, [])
