import pytest
import torch
import torch.nn.functional as F

from declip import build_encoder
from declip.models.zero_shot_classifier import Templates, cached_names, embed_names


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("nano", "random").eval()


def test_an_embedding_is_the_mean_direction_of_its_prompts(encoder):
    embedded = embed_names(encoder, ["red ring"], Templates.IMAGENET)[0]
    prompts = [template("red ring") for template in Templates.IMAGENET.functions]
    assert len(prompts) == 80
    expected = F.normalize(F.normalize(encoder.encode_text(prompts), dim=1).mean(dim=0), dim=0)
    torch.testing.assert_close(embedded, expected)


def test_templates_are_what_they_say():
    assert Templates.PHOTO.functions[0]("cat") == "a photo of a cat"
    assert Templates.NAME.functions[0]("cat") == "cat"


def test_the_cache_knows_names_templates_and_weights(encoder, tmp_path):
    first = cached_names(encoder, ["grass", "water"], Templates.NAME, tmp_path)
    torch.testing.assert_close(cached_names(encoder, ["grass", "water"], Templates.NAME, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 1
    cached_names(encoder, ["water", "grass"], Templates.NAME, tmp_path)
    cached_names(encoder, ["grass", "water"], Templates.PHOTO, tmp_path)
    with torch.no_grad():
        encoder.clip.token_embedding.weight.mul_(-1)
    changed = cached_names(encoder, ["grass", "water"], Templates.NAME, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4 and not torch.allclose(changed, first)


def test_a_torn_cache_file_is_computed_again(encoder, tmp_path):
    first = cached_names(encoder, ["grass"], Templates.NAME, tmp_path)
    next(tmp_path.iterdir()).write_bytes(b"torn")
    torch.testing.assert_close(cached_names(encoder, ["grass"], Templates.NAME, tmp_path), first)
