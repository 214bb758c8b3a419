"""Small towers of every family, built by open_clip itself, against the libraries' own forward passes."""

import pytest
import timm
import torch
from open_clip.timm_model import TimmModel
from torch import nn

from d2host.engine.errors import ConfigError
from declip.models.attention import ContextType
from declip.models.encoder import DenseCLIP
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.towers.select import find_adapter
from declip.weights.positions import resample_positions


@pytest.fixture(scope="module")
def encoder(family, small_encoder):
    return small_encoder(family)


def images(height=64, width=64):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def librarys_embeddings(encoder, images):
    return encoder.clip.encode_image(images, normalize=False)


def test_the_image_embedding_is_the_librarys_own(encoder):
    with torch.no_grad():
        expected = librarys_embeddings(encoder, images())
        torch.testing.assert_close(encoder.encode_image(images()), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (2, encoder.embed_dim)


def test_the_vanilla_block_gives_the_librarys_own_tokens(encoder):
    with torch.no_grad():
        features = encoder.encode_contexts(images(), [ContextType.VANILLA], (2,))[ContextType.VANILLA]
        expected = encoder.clip.visual.forward_intermediates(images(), indices=1, intermediates_only=True)
    torch.testing.assert_close(features.hidden[2], expected["image_intermediates"][0], rtol=1e-4, atol=1e-5)


def test_a_dense_feature_is_the_librarys_embedding_of_one_token(encoder):
    """Final norm, pooling and projection of each patch as if it were all that pooling sees."""
    visual = encoder.clip.visual
    with torch.no_grad():
        features = encoder.encode_contexts(images(), [ContextType.VANILLA], (2,))[ContextType.VANILLA]
        alone = features.hidden[2].permute(0, 2, 3, 1).reshape(-1, 1, encoder.width)
        if isinstance(visual, TimmModel):
            expected = visual.head(visual.trunk.forward_head(visual.trunk.norm(alone)))
        elif visual.pool_type == "avg":
            expected = visual._pool(alone.expand(-1, 2, -1))[0] @ visual.proj
        else:
            expected = visual._pool(alone)[0] @ visual.proj
    content = features.content.permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(content, expected, rtol=1e-4, atol=1e-5)


def test_positions_are_of_the_grid_of_the_images(encoder):
    """On another grid, the tokens that enter the blocks are the native ones plus the resampled positions."""
    tower, visual = encoder.image_tower, encoder.clip.visual
    tiled = images().repeat(1, 1, 1, 2)
    positions = visual.trunk.pos_embed if isinstance(visual, TimmModel) else visual.positional_embedding
    norm = visual.trunk.norm_pre if isinstance(visual, TimmModel) else visual.ln_pre
    padded = any(getattr(layer, "padding", 0) not in (0, (0, 0)) for layer in visual.modules())
    if positions is None or not isinstance(norm, nn.Identity) or padded:
        pytest.skip("there are none, a norm follows them, or patches see their neighbours")
    with torch.no_grad():
        native, wide = (tower.embed(each).x[:, tower.num_prefix_tokens :] for each in (images(), tiled))
        own = positions.view(-1, encoder.width)
        with_positions = len(own) - 16
        resampled = resample_positions(own, (4, 8), with_positions)[with_positions:]
    bare = (native - own[with_positions:]).unflatten(1, (4, 4)).repeat(1, 1, 2, 1).flatten(1, 2)
    torch.testing.assert_close(wide, bare + resampled, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_dense_feature_reaches_the_last_block_and_the_pixels(encoder):
    pixels = images(32, 48).requires_grad_()
    encoder.zero_grad()
    encoder.encode_dense(pixels).content.square().sum().backward()
    gradients = [parameter.grad for parameter in encoder.image_tower.blocks[-1].attn.parameters()]
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert pixels.grad.abs().sum() > 0
    encoder.zero_grad()


def test_texts_are_encoded_by_the_librarys_own_tower(encoder):
    tokens = torch.tensor([[1, 2, 3, 19, 0, 0, 0, 0], [1, 4, 5, 6, 7, 19, 0, 0]])
    with torch.no_grad():
        expected = encoder.clip.encode_text(tokens, normalize=False)
        torch.testing.assert_close(encoder.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)
    used = {id(parameter) for parameter in encoder.text_parameters()}
    encoder.zero_grad()
    encoder.encode_text(tokens).square().sum().backward()
    learnt = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert learnt <= {name for name, parameter in encoder.named_parameters() if id(parameter) in used}
    encoder.zero_grad()


def test_blocks_that_this_project_does_not_run_are_refused():
    small = {"embed_dim": 48, "num_heads": 3, "depth": 1, "img_size": 64, "patch_size": 16}
    expected = {
        "eva02_base_patch16_clip_224": "",
        "vit_base_patch16_siglip_224": "",
        "vit_small_patch16_dinov3": "its blocks scale their halves",
        "vit_base_patch16_rope_mixed_224": "its blocks scale their halves",
        "vit_base_patch16_rope_reg1_gap_256": "its blocks scale their halves",
        "vit_base_patch16_xp_224": "its blocks are not timm's plain ones",
        "vit_base_patch16_siglip_gap_224": "",
    }
    for name, missing in expected.items():
        if not timm.is_model(name):
            continue  # older
        visual = TimmModel("vit_tiny_patch16_224", 8)
        visual.trunk = timm.create_model(name, num_classes=0, **small)
        assert find_adapter(visual).missing(visual) == missing, name


@pytest.mark.parametrize("context", ["q", "k", "v", "qk", "all", "vanilla", "maskclip"])
def test_every_context_runs_on_a_non_square_grid(encoder, context):
    encoder.context = ContextType(context)
    features = encoder.encode_dense(images(48, 80), (1,))
    assert features.content.shape == (2, encoder.embed_dim, 3, 5)
    assert features.hidden[1].shape == (2, encoder.width, 3, 5)
    assert features.content.isfinite().all()


def test_only_queries_values_and_positions_of_both_towers_move_under_attention_tuning(encoder):
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    loss = encoder.encode_dense(images()).content.square().mean()
    tokens = torch.tensor([[1, 2, 3, 19, 0, 0, 0, 0]])
    (loss + encoder.encode_text(tokens).square().mean()).backward()
    moved = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    positions = {name for name, _ in encoder.named_parameters() if name.endswith(("pos_embed", "positional_embedding"))}
    assert positions <= moved
    assert all("attn" in name or name in positions for name in moved)
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
