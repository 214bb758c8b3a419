import pytest
import torch

from d2host.engine.errors import ConfigError
from declip.contexts import ContextType
from declip.models.stitching import encode_stitched
from declip.models.towers import Tokens
from declip.other_contexts import NeighbourContext


def image(height, width):
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))


def contexts_of(encoder):
    kinds = [ContextType.QK, ContextType.ALL, ContextType.VANILLA, ContextType.MASKCLIP, NeighbourContext()]
    return kinds + [ContextType.CATSEG] * (encoder.image_tower.num_prefix_tokens > 0)


@pytest.mark.parametrize("window", [0, 96])
@pytest.mark.parametrize("family", ["openclip", "eva", "siglip", "pe", "eva01", "vitamin"])
@torch.no_grad()
def test_one_window_is_the_plain_path(small_encoder, family, window):
    encoder = small_encoder(family)
    contexts, picture = contexts_of(encoder), image(64, 96)
    plain = encoder.encode_contexts(picture[None], contexts)
    for context, found in encode_stitched(encoder, picture, window, 16, contexts).items():
        torch.testing.assert_close(found.content, plain[context].content, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_tokens_are_the_means_of_the_windows_that_hold_them(small_encoder):
    encoder, picture = small_encoder("openclip"), image(48, 80)
    found = encode_stitched(encoder, picture, 32, 16, [ContextType.QK], windows_at_once=3)[ContextType.QK]
    total, count, prefix = torch.zeros(3, 5, 48), torch.zeros(3, 5, 1), []
    for row in range(2):
        for column in range(4):
            pixels = picture[:, 16 * row : 16 * row + 32, 16 * column : 16 * column + 32]
            x = encoder.run_blocks(pixels[None])[0].x[0]
            prefix.append(x[0])
            total[row : row + 2, column : column + 2] += x[1:].unflatten(0, (2, 2))
            count[row : row + 2, column : column + 2] += 1
    tokens = torch.cat([torch.stack(prefix).mean(0)[None], (total / count).flatten(0, 1)])[None]
    expected = encoder.attend(Tokens(tokens), ContextType.QK, picture[None])
    torch.testing.assert_close(found.content, expected.content, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.context, expected.context, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_patch_is_seen_from_beyond_its_window(small_encoder):
    encoder = small_encoder("openclip")
    picture = image(32, 96)
    other = picture.clone()
    other[:, :, :16] += 1.0  # in the first window, not in the last
    one, two = (
        encode_stitched(encoder, each, 32, 32, [ContextType.QK])[ContextType.QK].content for each in (picture, other)
    )
    assert (one - two)[..., -1].abs().max() > 1e-6
    apart = [encoder.encode_dense(each[None, :, :, 64:]).content for each in (picture, other)]
    assert torch.equal(*apart)


@pytest.mark.parametrize(("window", "stride"), [(24, 16), (32, 10), (20, 20)])
def test_windows_between_patches_are_refused(small_encoder, window, stride):
    with pytest.raises(
        ConfigError, match=rf"windows of {window} pixels every {stride} cannot be stitched .*patch size, 16"
    ):
        encode_stitched(small_encoder("openclip"), image(48, 80), window, stride, [ContextType.QK])


def test_a_context_that_the_encoder_cannot_have_is_refused(small_encoder):
    with pytest.raises(ConfigError, match="needs a class token"):
        encode_stitched(small_encoder("siglip"), image(48, 80), 32, 16, [ContextType.CATSEG])
