"""Contexts from elsewhere against their formulas with whole maps."""

import pytest
import torch
import torch.nn.functional as F

from d2host.engine.errors import ConfigError
from declip import other_contexts
from declip.contexts import ContextType
from declip.other_contexts import NeighbourContext, ProxyContext, parse_contexts

GRID = (4, 6)


@pytest.fixture(params=[5, 1024])
def rows(request, monkeypatch):
    monkeypatch.setattr(other_contexts, "ROWS", request.param)


@pytest.fixture(scope="module")
def proxy():
    return ProxyContext("nano-vfm")


def tokens():
    return torch.randn(3, 2, 3, 24, 8, generator=torch.Generator().manual_seed(0))


def pixels(height=32, width=48):
    return 255 * torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_a_proxy_attends_by_shifted_scaled_and_cut_cosines(proxy, rows):
    queries, keys, values = tokens()
    features = F.normalize(proxy.model(proxy.model.normalize(pixels())).flatten(2).mT, dim=-1)
    content = proxy(pixels(), GRID, queries, keys, values)
    for image in range(2):
        alike = features[image] @ features[image].T
        alike = (alike - 1.2 * alike.mean()) * 3.0
        alike[alike < 0] = float("-inf")
        for head in range(3):
            expected = alike.softmax(-1) @ values[image, head]
            torch.testing.assert_close(content[image, head], expected, rtol=1e-4, atol=1e-5)


def test_a_proxy_sees_the_image_on_the_encoders_grid(proxy):
    seen = []
    handle = proxy.model.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[-2:])))
    proxy(pixels(64, 96), GRID, *tokens())
    handle.remove()
    assert seen == [GRID]


def test_a_uniform_image_keeps_every_token(proxy):
    queries, keys, values = tokens()
    content = proxy(torch.full((2, 3, 32, 48), 90.0), GRID, queries, keys, values)
    assert content.isfinite().all()


def test_a_proxy_never_trains(proxy):
    proxy.train()
    assert not any(parameter.requires_grad for parameter in proxy.parameters()) and not proxy.model.training


def test_neighbours_attend_by_keys_and_a_gaussian_of_their_distance(rows):
    queries, keys, values = tokens()
    places = torch.tensor([(row, column) for row in range(4) for column in range(6)], dtype=torch.float32)
    prior = (-torch.cdist(places, places).square() / (2 * 2.0**2)).exp()
    expected = (keys @ keys.mT / 8**0.5 + prior).softmax(-1) @ values
    content = NeighbourContext(deviation=2.0)(pixels(), GRID, queries, keys, values)
    torch.testing.assert_close(content, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["openclip", "siglip", "pe", "eva-enormous"])
def test_the_last_block_attends_by_it_whatever_the_encoder(small_encoder, proxy, family):
    """What the block makes of that attention, without residual and feed-forward half."""
    encoder = small_encoder(family)
    tower, images = encoder.image_tower, torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    seen = []
    handle = proxy.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    with torch.no_grad():
        both = encoder.encode_contexts(images, [ContextType.QK, proxy], (1,))
    handle.remove()
    (shown, grid, *_), attended = seen[0]
    assert grid == (4, 6) and both[proxy].context == ()
    torch.testing.assert_close(encoder.normalize(shown), images, rtol=1e-4, atol=1e-4)
    assert torch.equal(both[proxy].hidden[1], both[ContextType.QK].hidden[1])
    with torch.no_grad():
        content = tower.project(tower.last_output(attended.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(both[proxy].content.flatten(2).mT, content, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["qq", "proxy:", "proxy", "neighbors", ""])
def test_an_unknown_context_is_refused(name):
    with pytest.raises(ConfigError, match=rf"context '{name}' is unknown: choose among q, k, .*neighbours, and proxy:"):
        parse_contexts(["qk", name])


def test_an_unknown_proxy_gets_the_nearest_names():
    with pytest.raises(ConfigError, match=r"teacher 'dinov2_vitb15' is unknown: did you mean .*dinov2_vitb14"):
        parse_contexts(["proxy:dinov2_vitb15"])


def test_weights_for_no_proxy_are_refused():
    with pytest.raises(ConfigError, match=r"weights of proxies are given \(random\), but no context is a proxy"):
        parse_contexts(["qk"], "random")
