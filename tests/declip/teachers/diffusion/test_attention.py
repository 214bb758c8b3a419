import pytest
import torch
from einops import reduce

from d2host.engine.errors import ConfigError
from declip.teachers.diffusion.attention import (
    Fusion,
    enlarged,
    fuse,
    pooled_attention,
    recording,
    self_attentions,
    sharpened,
)
from tests.tiny_diffusion import LAYERS, pixel_unet, tiny_unet


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("size", "grid"), [((4, 6), (4, 6)), ((4, 6), (2, 3)), ((9, 3), (3, 1))])
def test_pooled_attention_is_the_mean_over_queries_and_the_sum_over_keys(size, grid):
    query, key = torch.randn(2, 3, size[0] * size[1], 5, dtype=torch.float64)
    whole = torch.softmax(query @ key.mT * 0.3, dim=2)
    shape = {"h": grid[0], "w": grid[1], "r": size[0] // grid[0], "s": size[1] // grid[1]}
    expected = reduce(whole, "a (h r w s) n -> a (h w) n", "mean", **shape)
    expected = reduce(expected, "a n (h r w s) -> a n (h w)", "sum", **shape)
    torch.testing.assert_close(pooled_attention(query, key, 0.3, size, grid), expected)


def test_grids_that_are_no_multiple_of_the_students_are_refused_with_the_layer():
    assert enlarged((3, 5), 60, "up") == (6, 10)
    for tokens in (14, 30, 59):
        with pytest.raises(ConfigError, match=f"layer up of .* has {tokens} tokens, which cannot be .* 3×5: .*LAYERS"):
            enlarged((3, 5), tokens, "up")


def test_sharpened_rows_hold_what_is_strong_for_its_column():
    attention = torch.rand(3, 7, 7, dtype=torch.float64).softmax(dim=2)
    found = sharpened(attention, 0.6)
    for own, other in zip(attention, found, strict=True):
        relative = own / own.max(dim=0).values
        relative[relative < 0.6] = 0
        torch.testing.assert_close(other, relative / relative.sum(dim=1, keepdim=True))


def test_a_row_that_is_nowhere_strong_keeps_its_own_token():
    attention = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.1, 0.1, 0.05]])
    torch.testing.assert_close(sharpened(attention, 0.6)[2], torch.tensor([0.0, 0.0, 1.0]))


def test_maps_are_chained_in_order_or_averaged():
    first, second = torch.rand(2, 5, 5).softmax(dim=2), torch.rand(1, 5, 5).softmax(dim=2)
    heads = [sharpened(head, 0.2) for head in (*first, *second)]
    torch.testing.assert_close(fuse([first, second], 0.2), heads[0] @ heads[1] @ heads[2])
    torch.testing.assert_close(fuse([first, second], 0.2, Fusion.MEAN), sum(heads) / 3)
    torch.testing.assert_close(fuse([first, second], 0.2).sum(dim=1), torch.ones(5))


def test_self_attentions_of_transformers_and_of_plain_attention_blocks_are_found():
    names = list(self_attentions(tiny_unet()))
    assert [name for name in names if name.startswith("up")] == [
        f"{layer}.transformer_blocks.0.attn1" for layer in LAYERS
    ]
    assert not any("attn2" in name for name in names)
    assert {name.split(".")[0] for name in self_attentions(pixel_unet())} == {"down_blocks", "mid_block", "up_blocks"}


@pytest.mark.parametrize("kind", ["transformers", "plain"])
def test_recorded_maps_are_the_librarys_own_and_the_output_stays(kind):
    unet = (tiny_unet() if kind == "transformers" else pixel_unet()).eval()
    channels = unet.config.in_channels
    inputs = (torch.randn(1, channels, 8, 12), 3, *((torch.randn(1, 5, 6),) if kind == "transformers" else ()))
    grid = (8, 12) if kind == "transformers" else (4, 6)
    layers = {name: layer for name, layer in self_attentions(unet).items() if name.startswith("up_blocks")}
    scores = {}

    class Explicit:
        """The map by the library's own method; the output by the processor that was there."""

        def __init__(self, own, name):
            self.own, self.name = own, name

        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
            tokens = hidden_states
            if tokens.dim() == 4:
                tokens = attn.group_norm(tokens.flatten(2)).mT
            query, key = (attn.head_to_batch_dim(project(tokens)) for project in (attn.to_q, attn.to_k))
            scores[self.name] = attn.get_attention_scores(query, key)
            return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)

    with torch.no_grad():
        plain = unet(*inputs).sample
        processors = {name: layer.processor for name, layer in layers.items()}
        with recording(layers, grid) as maps:
            recorded = unet(*inputs).sample
        assert {name: layer.processor for name, layer in layers.items()} == processors
        for name, layer in layers.items():
            layer.set_processor(Explicit(layer.processor, name))
        unet(*inputs)
    assert torch.equal(recorded, plain)
    assert list(maps) == list(layers) == list(scores)
    for name, attention in maps.items():
        torch.testing.assert_close(attention, scores[name], rtol=1e-4, atol=1e-6)


def test_processors_are_put_back_after_a_failure():
    layers = self_attentions(tiny_unet())
    before = [layer.processor for layer in layers.values()]
    with pytest.raises(KeyError), recording(layers, (2, 2)):
        raise KeyError
    assert [layer.processor for layer in layers.values()] == before
