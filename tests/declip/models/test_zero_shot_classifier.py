import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from d2host.engine.errors import CheckpointError
from declip import build_encoder
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.zero_shot_classifier import ClassEmbeddings, Templates, cached_names, embed_names
from declip.weights.files import read_facts, save_tensors

VOCABULARY = ("red circle", "grass, lawn", "wood")


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
    assert Templates("single").functions[0]("cat") == "A photo of a cat in the scene"
    assert [templates.num_prompts for templates in Templates] == [80, 1, 1, 1, 63]


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


def test_every_prompt_of_a_class_has_its_embedding(encoder):
    embeddings = ClassEmbeddings(Templates.SINGLE)(encoder, VOCABULARY)
    prompts = [f"A photo of a {name} in the scene" for name in ("red circle", "grass", "wood")]
    torch.testing.assert_close(embeddings, encoder.encode_text(prompts)[:, None])
    assert ClassEmbeddings(Templates.IMAGENET)(encoder, VOCABULARY).shape == (3, 80, encoder.embed_dim)


def test_a_vocabulary_is_encoded_once_while_the_text_tower_stays(encoder):
    embed = ClassEmbeddings(Templates.SINGLE)
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    first = embed(encoder, VOCABULARY)
    assert embed(encoder, VOCABULARY) is first
    assert embed(encoder, VOCABULARY[:2]) is not first
    assert embed(encoder, VOCABULARY) is first


def test_the_longest_unused_vocabulary_goes_first(encoder):
    embed = ClassEmbeddings(Templates.NAME, capacity=2)
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    a, b = embed(encoder, ["a"]), embed(encoder, ["b"])
    assert embed(encoder, ["a"]) is a
    embed(encoder, ["c"])
    assert embed(encoder, ["a"]) is a and embed(encoder, ["b"]) is not b


@pytest.mark.parametrize("weights", ["mul_", "load_state_dict"])
def test_a_changed_text_tower_is_noticed(encoder, weights):
    embed = ClassEmbeddings(Templates.SINGLE)
    with torch.no_grad():
        before = embed(encoder, VOCABULARY)
        if weights == "mul_":
            encoder.clip.token_embedding.weight.mul_(2)
        else:
            encoder.clip.load_state_dict(build_encoder("nano", "nano-clip").clip.state_dict())
        after = embed(encoder, VOCABULARY)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after[1], encoder.encode_text(["A photo of a grass in the scene"]))


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_of_training_is_noticed(encoder, fused):
    embed = ClassEmbeddings(Templates.SINGLE)
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=1e-4, fused=fused)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(
                embed(encoder, ["grass"])[0],
                encoder.encode_text(encoder.tokenize([template("grass") for template in Templates.SINGLE.functions])),
            )
        embed(encoder, VOCABULARY).square().sum().backward()
        optimizer.step()


def test_a_training_text_tower_gets_gradients_every_time(encoder):
    embed = ClassEmbeddings(Templates.SINGLE)
    apply_finetuning(encoder, FinetunePolicy.FULL)
    for _ in range(2):
        encoder.zero_grad()
        embed(encoder, VOCABULARY).sum().backward()
        assert encoder.clip.token_embedding.weight.grad.abs().sum() > 0


def test_kept_embeddings_have_full_precision_under_autocast(encoder):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert ClassEmbeddings(Templates.SINGLE)(encoder, VOCABULARY).dtype == torch.float32


@pytest.mark.parametrize("policy", [FinetunePolicy.FROZEN, FinetunePolicy.FULL])
def test_a_first_use_under_inference_mode_leaves_training_possible(encoder, policy):
    embed, layer = ClassEmbeddings(Templates.SINGLE), torch.nn.Linear(encoder.embed_dim, 4)
    apply_finetuning(encoder, policy)
    with torch.inference_mode():
        before = embed(encoder, VOCABULARY)
    after = embed(encoder, VOCABULARY)
    torch.testing.assert_close(before, after)
    layer(after).square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_a_model_built_under_inference_mode_is_used_and_its_changes_are_noticed():
    embed = ClassEmbeddings(Templates.SINGLE)
    with torch.inference_mode():
        encoder = build_encoder("nano", "nano-clip").eval()
        before = embed(encoder, VOCABULARY)
        assert embed(encoder, VOCABULARY) is before
        encoder.clip.token_embedding.weight.mul_(2)
        assert not torch.allclose(embed(encoder, VOCABULARY), before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda encoder: encoder.clip.text_projection.fill_(0),
        lambda encoder: encoder.clip.text_projection.mul_(float("nan")),
        lambda encoder: encoder.clip.ln_final.bias.fill_(float("inf")),
        lambda encoder: encoder.clip.token_embedding.weight.fill_(1e38),
    ],
)
@pytest.mark.parametrize(
    "embed",
    [
        lambda encoder: embed_names(encoder, VOCABULARY, Templates.NAME),
        lambda encoder: ClassEmbeddings(Templates.NAME)(encoder, VOCABULARY),
    ],
)
def test_a_text_tower_that_gives_no_directions_is_refused(encoder, spoil, embed):
    with torch.no_grad():
        spoil(encoder)
        with pytest.raises(CheckpointError, match="text tower of 'nano' gives 'red circle' no finite embedding"):
            embed(encoder)


LONG = "red ball and blue ring " * 20
EQUALS = {
    "cut at the limit": [f"{LONG}one", "grass", f"{LONG}two"],
    "of other case": ["Grass", "wood", "grass"],
    "of the same first synonym": ["grass, lawn", "wood", "grass, meadow"],
    "the same": ["grass", "wood", "grass"],
}


@pytest.mark.parametrize("kind", EQUALS)
@pytest.mark.parametrize("how", ["all prompts", "mean", "cache"])
def test_classes_that_are_the_same_to_the_text_tower_are_named_once(encoder, kind, how, tmp_path, caplog):
    names = EQUALS[kind]
    if how == "all prompts":
        embed = ClassEmbeddings(Templates.SINGLE)
        for _ in range(2):
            embed(encoder, names)
    else:
        if "synonym" in kind:
            names = [name.split(",")[0] for name in names]
        cached_names(encoder, names, Templates.PHOTO, tmp_path if how == "cache" else None)
    assert caplog.text.count("these classes are the same") == 1
    assert names[0].split(",")[0][-5:] in caplog.text and names[2].split(",")[0][-5:] in caplog.text
    assert "wood" not in caplog.text


def test_classes_that_differ_are_not_named(encoder, caplog):
    embed_names(encoder, ["grass", "wood", *(f"{color} ring" for color in ("red", "blue", "green"))], Templates.PHOTO)
    assert not caplog.text


@pytest.mark.parametrize("change", ["other names", "other weights", "half precision", "without facts", "not a number"])
def test_a_cache_file_of_something_else_is_computed_again_and_said(encoder, tmp_path, caplog, change):
    names = ["grass", "water"]
    expected = cached_names(encoder, names, Templates.NAME, tmp_path / "own")
    path = next((tmp_path / "own").iterdir())
    facts = {key: json.loads(value) for key, value in read_facts(path).items()}
    if change == "other names":
        cached_names(encoder, ["wood", "sky"], Templates.NAME, tmp_path / "other")
        next((tmp_path / "other").iterdir()).replace(path)
    elif change == "other weights":
        cached_names(build_encoder("nano", "nano-clip").eval(), names, Templates.NAME, tmp_path / "other")
        next((tmp_path / "other").iterdir()).replace(path)
    elif change == "half precision":
        save_tensors({"embeddings": expected.half()}, path, facts)
    elif change == "without facts":
        save_tensors({"embeddings": expected}, path, {})
    else:
        save_file({"embeddings": expected * float("nan")}, path)
    assert torch.equal(cached_names(encoder, names, Templates.NAME, tmp_path / "own"), expected)
    assert caplog.text.count("are computed again") == 1
    caplog.clear()
    assert torch.equal(cached_names(encoder, names, Templates.NAME, tmp_path / "own"), expected) and not caplog.text


@pytest.mark.slow
def test_processes_that_write_one_cache_leave_it_whole(tmp_path):
    code = (
        "import sys, torch, declip\n"
        "from declip.models.zero_shot_classifier import Templates, cached_names\n"
        "encoder = declip.build_encoder('nano', 'nano-clip').eval()\n"
        "for index in range(8):\n"
        "    cached_names(encoder, ['grass', f'thing {index}'], Templates.NAME, sys.argv[1])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate()[1].decode() for process in processes] == ["", ""]
    assert len(list(tmp_path.iterdir())) == 8
