"""Small EVA-02 and SigLIP towers, built by timm itself, against timm's own forward pass."""

import pytest
import timm
import torch
from torch import nn

from d2host.engine.errors import ConfigError
from declip.models.attention import ContextType
from declip.models.encoder import DenseCLIP
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.towers import resample_positions
from declip.models.towers.select import missing_of_eva


@pytest.fixture(params=["eva", "siglip"])
def encoder(request, small_encoder):
    return small_encoder(request.param)


def images(height=64, width=64):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_the_image_embedding_is_timms_own(encoder):
    with torch.no_grad():
        expected = encoder.clip.visual.head(encoder.clip.visual.trunk(images()))
        torch.testing.assert_close(encoder.encode_image(images()), expected, rtol=1e-4, atol=1e-5)


def test_the_vanilla_block_gives_timms_own_tokens(encoder):
    encoder.context = ContextType.VANILLA
    trunk = encoder.clip.visual.trunk
    with torch.no_grad():
        last = encoder.encode_dense(images(), (2,)).hidden[2]
        expected = trunk.forward_intermediates(images(), indices=1, intermediates_only=True)[0]
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_blocks_that_this_project_does_not_run_are_refused():
    small = {"embed_dim": 48, "num_heads": 3, "depth": 1, "img_size": 112}
    names = {"eva02_base_patch16_clip_224": True, "eva_giant_patch14_clip_224": False, "eva02_tiny_patch14_224": False}
    assert {name: not missing_of_eva(timm.create_model(name, **small)) for name in names} == names


@pytest.mark.parametrize("context", ["q", "k", "v", "qk", "all", "vanilla", "maskclip"])
def test_every_context_runs_on_a_non_square_grid(encoder, context):
    encoder.context = ContextType(context)
    features = encoder.encode_dense(images(48, 80), (1,))
    assert features.content.shape == (2, 24, 3, 5) and features.hidden[1].shape == (2, 48, 3, 5)
    assert features.content.isfinite().all()


def test_only_queries_values_and_positions_of_both_towers_move_under_attention_tuning(encoder):
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    loss = encoder.encode_dense(images()).content.square().mean()
    tokens = torch.tensor([[1, 2, 3, 19, 0, 0, 0, 0]])
    (loss + encoder.encode_text(tokens).square().mean()).backward()
    moved = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("pos_embed" in name for name in moved) and "clip.text.positional_embedding" in moved
    assert all("attn" in name or "pos" in name for name in moved)
    assert not any("k_proj" in name or ".proj." in name or "out_proj" in name for name in moved)
    for name, parameter in encoder.named_parameters():
        if name in moved and name.endswith(("qkv.weight", "in_proj_weight")):
            _, keys, values = parameter.grad.chunk(3)
            assert keys.abs().sum() == 0 and values.abs().sum() > 0


def test_catseg_context_needs_a_class_token(encoder):
    if encoder.image_tower.num_prefix_tokens:
        assert DenseCLIP(
            encoder.clip, name="x", tokenizer=None, pixel_mean=(0,) * 3, pixel_std=(1,) * 3, context=ContextType.CATSEG
        )
        return
    with pytest.raises(ConfigError, match="needs a class token, which 'x' lacks"):
        DenseCLIP(
            encoder.clip, name="x", tokenizer=None, pixel_mean=(0,) * 3, pixel_std=(1,) * 3, context=ContextType.CATSEG
        )


def test_positions_of_the_native_grid_stay_bit_for_bit():
    positions = torch.randn(17, 8)
    assert torch.equal(resample_positions(positions, (4, 4), 1), positions)


def test_positions_are_resampled_bicubically_and_the_prefix_stays():
    positions = torch.randn(17, 8)
    resampled = resample_positions(positions, (6, 3), 1)
    patches = positions[1:].T.reshape(1, 8, 4, 4)
    expected = nn.functional.interpolate(patches, size=(6, 3), mode="bicubic", align_corners=False)
    assert torch.equal(resampled[0], positions[0])
    torch.testing.assert_close(resampled[1:], expected[0].flatten(1).T)
