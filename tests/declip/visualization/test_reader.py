"""Attention that is read off a running model, against the outputs of the model's own attention."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

import declip
from d2host.engine.errors import ConfigError
from declip.contexts import ContextType
from declip.teachers.foundation import FoundationTeacher
from declip.visualization import reader
from declip.visualization.reader import AttentionMap, AttentionReader, read_blocks, read_context


def images(height=64, width=96):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def entered(block, call):
    """What enters the attention of a block, and what it gives."""
    seen = []
    attention = block.attn
    handle = attention.register_forward_hook(lambda _, given, output: seen.append((given, output)))
    call()
    handle.remove()
    (given, output) = seen[0]
    return given[0], output[0] if isinstance(output, tuple) else output


def by_hand(attention, x, weights):
    """The output of an attention under given weights 1×H×L×L, by its own value and output layers."""
    if isinstance(attention, nn.MultiheadAttention):
        values = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)[2]
        heads = values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        return attention.out_proj((weights @ heads).transpose(1, 2).flatten(2))
    if getattr(attention, "v_proj", None) is not None:
        values = attention.v_proj(x)
    else:
        values = attention.qkv(x).chunk(3, dim=-1)[2]
        if getattr(attention, "v_bias", None) is not None:
            values = values + attention.v_bias
    heads = values.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    return attention.proj(attention.norm((weights @ heads).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("index", [0, 2])
def test_what_is_read_is_what_the_block_computes_with(small_encoder, family, index):
    encoder = small_encoder(family)
    tower = encoder.image_tower
    whole = read_blocks(encoder, images(), lambda attention: attention.rows(slice(None)))[index]
    with torch.no_grad():
        tokens = tower.embed(images())
        for before in range(index):
            tokens = tower.run_block(before, tokens)
        x, output = entered(tower.blocks[index], lambda: tower.run_block(index, tokens))
        torch.testing.assert_close(by_hand(tower.blocks[index].attn, x, whole), output, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.sum(dim=-1), torch.ones(whole.shape[:-1]))


@pytest.mark.parametrize("name", ["nano-vfm", "vit_tiny_patch16_dinov3_qkvb", "vit_tiny_patch16_224"])
def test_attention_of_teachers_is_read_too(name):
    if not name.startswith("nano") and name not in timm.list_models():
        pytest.skip(f"timm {timm.__version__} has no {name}")
    teacher = FoundationTeacher(name, "pretrained" if name.startswith("nano") else "random")
    whole = read_blocks(teacher, images(), lambda attention: attention.rows(slice(None)))
    block = teacher.model.blocks[1]
    x, output = entered(block, lambda: teacher(images()))
    with torch.no_grad():
        torch.testing.assert_close(by_hand(block.attn, x, whole[1]), output, rtol=1e-4, atol=1e-5)


def test_a_faster_form_and_the_block_itself_are_read_alike():
    encoder = declip.build_encoder("nano", "nano-clip")
    fused = read_blocks(encoder, images(), AttentionMap.received)
    for block in encoder.image_tower.blocks:
        block.register_forward_hook(lambda *_: None)  # the faster form steps aside
    plain = read_blocks(encoder, images(), AttentionMap.received)
    for pair in zip(fused, plain, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-6)


def test_an_addition_to_a_blocks_weights_is_read(small_encoder):
    encoder = small_encoder("openclip")
    before = read_blocks(encoder, images(), AttentionMap.received)

    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(encoder.image_tower.blocks[0].attn, "in_proj_weight", Twice())
    after = read_blocks(encoder, images(), AttentionMap.received)
    assert not torch.allclose(before[0], after[0])


def test_reading_leaves_the_features_as_they_are():
    encoder = declip.build_encoder("nano", "nano-declip").eval()
    with torch.no_grad():
        alone = encoder.encode_dense(images()).content
        with AttentionReader(lambda attention: attention.rows([0])):
            watched = encoder.encode_dense(images()).content
    assert torch.equal(alone, watched)


@pytest.mark.parametrize("first", [0, 1])
def test_what_tokens_receive_is_the_mean_of_all_rows(first, monkeypatch):
    monkeypatch.setattr(reader, "ROWS", 3)
    attention = AttentionMap(*torch.randn(2, 2, 3, 10, 8), scale=0.3)
    expected = attention.rows(slice(None))[:, :, first:].mean(dim=(1, 2))
    torch.testing.assert_close(attention.received(first), expected)


def test_no_map_of_all_tokens_is_held(monkeypatch):
    asked = []
    rows = AttentionMap.rows
    monkeypatch.setattr(AttentionMap, "rows", lambda self, tokens: asked.append(tokens) or rows(self, tokens))
    AttentionMap(*torch.randn(2, 1, 1, 2000, 4), scale=1.0).received()
    assert len(asked) == -(-2000 // reader.ROWS) and all(each.stop - each.start <= reader.ROWS for each in asked)


def test_a_bias_and_a_mask_count():
    queries, keys = torch.randn(2, 1, 2, 6, 8)
    bias = torch.randn(6, 6)
    expected = (0.5 * queries @ keys.mT + bias).softmax(dim=-1)
    torch.testing.assert_close(AttentionMap(queries, keys, 0.5, bias).rows([1, 4]), expected[:, :, [1, 4]])
    alone = AttentionMap(queries, keys, 0.5, torch.eye(6, dtype=torch.bool)).rows(slice(None))
    torch.testing.assert_close(alone, torch.eye(6).expand(1, 2, 6, 6))


@pytest.mark.parametrize(("context", "maps"), [("q", 1), ("qk", 2), ("all", 1), ("vanilla", 0), ("maskclip", 0)])
def test_the_context_has_the_maps_that_dense_features_come_from(small_encoder, context, maps):
    encoder = small_encoder("eva", context=ContextType(context))
    found = read_context(encoder, images(), lambda attention: attention.rows(slice(None)))
    assert len(found) == maps
    if not maps:
        return
    tower = encoder.image_tower
    with torch.no_grad():
        tokens, _ = encoder.run_blocks(images())
        values = tower.last_projections(tokens.x)[2].unflatten(-1, (tower.num_heads, -1)).transpose(1, 2)
        x = tower.project(tower.last_output((sum(found) @ values).transpose(1, 2).flatten(2)))
        expected = encoder.encode_dense(images()).content
    torch.testing.assert_close(encoder.as_map(x, encoder.grid(images())), expected, rtol=1e-4, atol=1e-5)


def test_windows_have_no_attention_over_an_image():
    teacher = FoundationTeacher("samvit_base_patch16_224", "random")
    with pytest.raises(ConfigError, match="attends within windows"):
        read_blocks(teacher, images(224, 224), AttentionMap.received)


def test_blocks_that_do_without_torchs_attention_are_refused():
    teacher = FoundationTeacher("nano-vfm")
    teacher.model.blocks[2].attn.fused_attn = False
    with pytest.raises(ConfigError, match=r"'nano-vfm' cannot be read \(5 of its 6 blocks"):
        read_blocks(teacher, images(), AttentionMap.received)
