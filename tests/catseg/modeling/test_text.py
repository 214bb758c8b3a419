import pytest
import torch

from catseg.modeling.text import ClassEmbeddings, PromptSet
from declip.models.factory import build_encoder
from declip.models.finetuning import FinetunePolicy, apply_finetuning

VOCABULARY = ("red circle", "grass, lawn", "wood")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("nano", "random").eval()


def test_embeddings_are_those_of_the_filled_templates(encoder):
    embeddings = ClassEmbeddings(PromptSet.SINGLE)(encoder, VOCABULARY)
    prompts = [f"A photo of a {name} in the scene" for name in ("red circle", "grass", "wood")]
    torch.testing.assert_close(embeddings, encoder.encode_text(prompts)[:, None])


def test_the_imagenet_set_gives_eighty_prompts_per_class(encoder):
    assert PromptSet.IMAGENET.num_prompts == 80
    assert ClassEmbeddings(PromptSet.IMAGENET)(encoder, VOCABULARY).shape == (3, 80, encoder.embed_dim)


def test_a_vocabulary_is_encoded_once_while_the_text_tower_stays(encoder):
    embed = ClassEmbeddings(PromptSet.SINGLE)
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    first = embed(encoder, VOCABULARY)
    assert embed(encoder, VOCABULARY) is first
    assert embed(encoder, VOCABULARY[:2]) is not first
    assert embed(encoder, VOCABULARY) is first


def test_a_changed_text_tower_is_noticed(encoder):
    embed = ClassEmbeddings(PromptSet.SINGLE)
    with torch.no_grad():
        before = embed(encoder, VOCABULARY)
        encoder.clip.token_embedding.weight.mul_(2)
        after = embed(encoder, VOCABULARY)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after[1], encoder.encode_text(["A photo of a grass in the scene"]))


def test_a_training_text_tower_gets_gradients_every_time(encoder):
    embed = ClassEmbeddings(PromptSet.SINGLE)
    apply_finetuning(encoder, FinetunePolicy.FULL)
    for _ in range(2):
        encoder.zero_grad()
        embed(encoder, VOCABULARY).sum().backward()
        assert encoder.clip.token_embedding.weight.grad.abs().sum() > 0


def test_cached_embeddings_keep_full_precision_under_autocast(encoder):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert ClassEmbeddings(PromptSet.SINGLE)(encoder, VOCABULARY).dtype == torch.float32
