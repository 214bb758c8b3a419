"""The encoder against open_clip's own forward passes and against explicit formulas, all parameters random."""

import sys

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

import declip
from d2host.engine.errors import CheckpointError, ConfigError
from declip.contexts import AttentionScale, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.factory import create_clip, load_tokenizer
from declip.models.weights import save_encoder
from declip.weights.files import read_metadata

TEXT = CLIPTextCfg(context_length=12, vocab_size=50, width=32, heads=2, layers=2)
VISION = {
    "openclip": CLIPVisionCfg(image_size=32, patch_size=8, width=48, layers=3, head_width=16),
    "eva": CLIPVisionCfg(image_size=64, timm_model_name="eva02_tiny_patch14_224", timm_pool="token", timm_proj=None),
    "siglip": CLIPVisionCfg(
        image_size=64, timm_model_name="vit_tiny_patch16_siglip", timm_pool="map", timm_proj="none"
    ),
}


def randomize(model):
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        mean = 1.0 if parameter.dim() < 2 else 0.0
        parameter.data = (mean + torch.randn(parameter.shape, generator=generator)) * 0.1
    return model


@pytest.fixture(scope="module")
def encoder():
    """A small open_clip ViT with random parameters everywhere (also the text tower's)."""
    clip = CLIP(embed_dim=24, vision_cfg=VISION["openclip"], text_cfg=TEXT)
    return as_encoder(randomize(clip))


def as_encoder(clip, **options):
    tokenizer = lambda texts: torch.tensor([[1, *map(len, texts[i].split()), 49] for i in range(len(texts))])  # noqa: E731
    return DenseCLIP(
        clip, name="small", tokenizer=tokenizer, pixel_mean=(0.5,) * 3, pixel_std=(0.25,) * 3, **options
    ).eval()


def images(height=32, width=32):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_normalize_takes_bytes_to_standard_scores(encoder):
    pixels = torch.full((3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(encoder.normalize(pixels), torch.full((3, 2, 2), 2.0))


def test_the_image_embedding_is_open_clips_own(encoder):
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_image(images()), encoder.clip.encode_image(images()))


def test_text_embeddings_are_open_clips_own_for_short_and_full_prompts(encoder):
    for tokens in (torch.tensor([[1, 7, 49, 0, 0, 0, 0, 0, 0, 0, 0, 0]]), torch.randint(1, 49, (3, 12))):
        tokens[:, -1] = torch.where(tokens[:, -1] == 0, 0, 49)
        with torch.no_grad():
            torch.testing.assert_close(encoder.encode_text(tokens), encoder.clip.encode_text(tokens))


def test_dense_features_of_the_vanilla_block_are_open_clips_tokens(encoder):
    vanilla = as_encoder(encoder.clip, context=ContextType.VANILLA)
    visual = encoder.clip.visual
    with torch.no_grad():
        tokens = visual.forward_intermediates(images(), indices=1, normalize_intermediates=True)
        expected = tokens["image_intermediates"][0].flatten(2).transpose(1, 2) @ visual.proj
        content = vanilla.encode_dense(images()).content.flatten(2).transpose(1, 2)
    torch.testing.assert_close(content, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("context", ["q", "qk", "maskclip", "catseg"])
def test_the_last_block_is_the_formula_of_the_paper(encoder, context):
    """Eq. 4-6 written out on open_clip's own weights."""
    decoupled = as_encoder(encoder.clip, context=ContextType(context))
    visual, last = encoder.clip.visual, encoder.clip.visual.transformer.resblocks[-1]
    with torch.no_grad():
        x = visual._embeds(images())
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        projected = last.attn.in_proj_weight, last.attn.in_proj_bias
        queries, keys, values = torch.nn.functional.linear(last.ln_1(x), *projected).chunk(3, dim=-1)
        split = lambda t: t.unflatten(-1, (3, 16)).transpose(1, 2)  # noqa: E731
        self_map = lambda t: (split(t) @ split(t).transpose(-1, -2) / 4).softmax(-1)  # noqa: E731
        attention = {"q": [queries], "qk": [queries, keys]}.get(context)
        attended = sum(self_map(t) for t in attention) @ split(values) if attention else split(values)
        out = last.attn.out_proj(attended.transpose(1, 2).flatten(2))
        if not attention:
            out = (x if context == "maskclip" else x[:, :1]) + out
            out = out + last.mlp(last.ln_2(out))
        expected = (visual.ln_post(out) @ visual.proj)[:, 1:]
        content = decoupled.encode_dense(images()).content.flatten(2).transpose(1, 2)
    torch.testing.assert_close(content, expected, rtol=1e-4, atol=1e-5)


def test_context_features_are_the_projections_of_the_patches(encoder):
    for context, count in ((ContextType.Q, 1), (ContextType.QK, 2), (ContextType.ALL, 3), (ContextType.VANILLA, 0)):
        features = as_encoder(encoder.clip, context=context).encode_dense(images())
        assert [tuple(part.shape) for part in features.context] == [(2, 16, 48)] * count


def test_hidden_features_are_block_outputs_without_the_class_token(encoder):
    visual = encoder.clip.visual
    with torch.no_grad():
        hidden = encoder.encode_dense(images(), hidden_blocks=(0, 1)).hidden
        x = visual._embeds(images())
        for index in (0, 1):
            x = visual.transformer.resblocks[index](x)
            torch.testing.assert_close(hidden[index].flatten(2).transpose(1, 2), x[:, 1:])


def test_context_types_are_computed_together_as_they_are_alone(encoder):
    contexts = (ContextType.QK, ContextType.VANILLA, ContextType.CATSEG)
    with torch.no_grad():
        for context, features in encoder.encode_contexts(images(), contexts, (1,)).items():
            alone = as_encoder(encoder.clip, context=context).encode_dense(images(), (1,))
            torch.testing.assert_close(vars(features), vars(alone), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (8, 64)])
def test_any_multiple_of_the_patch_gives_its_grid(encoder, size):
    features = encoder.encode_dense(images(*size), (0,))
    grid = size[0] // 8, size[1] // 8
    assert features.content.shape == (2, 24, *grid) and features.hidden[0].shape == (2, 48, *grid)


def test_the_scale_changes_the_features(encoder):
    unscaled = as_encoder(encoder.clip, attention_scale=AttentionScale.NONE)
    assert not torch.allclose(unscaled.encode_dense(images()).content, encoder.encode_dense(images()).content)


def test_a_side_that_is_no_multiple_of_the_patch_is_refused(encoder):
    with pytest.raises(ConfigError, match="30x32 pixels do not divide into the 8-pixel patches"):
        encoder.encode_dense(images(30, 32))


def test_blocks_that_there_are_not_are_refused(encoder):
    with pytest.raises(ConfigError, match="'small' has no block 3: choose blocks from 0 to 2"):
        encoder.encode_dense(images(), (3,))


@pytest.mark.parametrize("context", [ContextType.QK, ContextType.VANILLA])
def test_the_output_of_the_last_block_is_what_the_dense_features_are_projected_from(encoder, context):
    encoder = as_encoder(encoder.clip, context=context)
    features = encoder.encode_dense(images(), (2,))
    tokens = features.hidden[2].flatten(2).transpose(1, 2)
    prefix = torch.zeros(len(tokens), encoder.image_tower.num_prefix_tokens, tokens.shape[2])
    projected = encoder.image_tower.project(torch.cat([prefix, tokens], dim=1))[:, prefix.shape[1] :]
    torch.testing.assert_close(projected, features.content.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("context", ContextType)
def test_nano_runs_under_every_context(context):
    features = declip.build_encoder("nano", "random", context=context.value).encode_dense(
        torch.randn(1, 3, 24, 40), (0,)
    )
    assert features.content.shape == (1, 128, 3, 5) and features.content.isfinite().all()


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("EVA02-B-61", None, r"encoder 'EVA02-B-61' is unknown: did you mean .*EVA02-B-16"),
        ("RN50", "random", r"'RN50' is not supported \(its image tower is convolutional\)"),
        ("ViT-B-15", "random", r"'ViT-B-15' is unknown: did you mean .*ViT-B-16"),
        ("nano", "openai", r"weights 'openai' of 'nano' are unknown: give .*nano-clip.*, a weight file, or random"),
        ("ViT-B-16", "opnai", r"weights 'opnai' of 'ViT-B-16' are unknown: give an open_clip tag .*\(openai, "),
    ],
)
def test_unknown_names_get_one_sentence(name, weights, sentence):
    with pytest.raises(ConfigError, match=sentence):
        declip.build_encoder(name, weights=weights)


@pytest.mark.parametrize("weights", [None, ""])
def test_weights_are_random_only_where_asked(weights):
    with pytest.raises(ConfigError, match=r"'ViT-B-16' has no weights: give an open_clip tag .*\(openai, .*random"):
        declip.build_encoder("ViT-B-16", weights)
    with pytest.raises(ConfigError, match="'nano' has no weights: give a name that a plug-in adds"):
        declip.build_encoder("nano", weights)


def test_a_tokenizer_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"tokenizer of 'ViT-B-16-SigLIP' .*: pip install transformers"):
        load_tokenizer("ViT-B-16-SigLIP")(["a cat"])


def test_a_hub_that_cannot_be_reached_gets_one_line(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co'.\nCheck your internet connection")

    monkeypatch.setattr("open_clip.get_tokenizer", unreachable)
    with pytest.raises(
        ConfigError, match=r"tokenizer of 'ViT-B-16-SigLIP2' could not be downloaded \(We .*\): .*HF_HOME"
    ):
        load_tokenizer("ViT-B-16-SigLIP2")(["a cat"])
    monkeypatch.setattr("open_clip.create_model", unreachable)
    monkeypatch.setattr("declip.models.factory.find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"text tower of 'roberta-ViT-B-32', roberta-base, cannot be had .*HF_HOME"):
        create_clip("roberta-ViT-B-32")


def test_a_text_tower_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setattr("declip.models.factory.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"text tower of roberta-base, .*: pip install transformers sentencepiece"):
        declip.build_encoder("roberta-ViT-B-32", "random")


@pytest.mark.parametrize(("name", "mean"), [("ViT-B-16-SigLIP2", 0.5), ("MobileCLIP-B", 0.0), ("ViT-B-16", 0.48145466)])
def test_statistics_are_those_of_the_published_weights_also_without_them(name, mean, monkeypatch):
    monkeypatch.setattr("open_clip.create_model", lambda *a, force_preprocess_cfg, **k: force_preprocess_cfg)
    monkeypatch.setattr("open_clip.get_model_preprocess_cfg", lambda clip: clip)
    assert create_clip(name).pixel_mean[0] == mean


def test_saved_weights_say_their_statistics(encoder, tmp_path):
    saved = read_metadata(save_encoder(encoder, tmp_path / "w.safetensors"))
    assert saved["pixel_mean"] == [0.5] * 3 and saved["pixel_std"] == [0.25] * 3


def test_a_missing_weight_file_is_named():
    with pytest.raises(CheckpointError, match=r"weight file nowhere/w\.safetensors does not exist"):
        declip.build_encoder("nano", weights="nowhere/w.safetensors")


@pytest.mark.parametrize("key", ["context", "attention_scale"])
def test_unknown_variants_list_the_known_ones(key):
    with pytest.raises(ConfigError, match=f"{key} 'other' is unknown: choose one of"):
        declip.build_encoder("nano", "random", **{key: "other"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu", "EVA02-B-16", "ViT-B-16-SigLIP"])
def test_full_size_families_agree_with_open_clip(name):
    encoder = declip.build_encoder(name, "random").eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, mean=0.5 if parameter.dim() < 2 else 0.0, std=0.03)
    picture = torch.randn(1, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        expected = encoder.clip.encode_image(picture)
        torch.testing.assert_close(encoder.encode_image(picture), expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    other = torch.randn(1, 3, 5 * encoder.patch_size, 7 * encoder.patch_size)
    for context in ContextType:
        if context is ContextType.CATSEG and not encoder.image_tower.num_prefix_tokens:
            continue
        encoder.context = context
        assert encoder.encode_dense(other, (1,)).content.shape[-2:] == (5, 7)


def test_open_clip_knows_the_models_the_configs_name():
    for name in ("EVA02-B-16", "EVA02-L-14-336", "ViT-B-16-quickgelu", "ViT-L-14-336-quickgelu"):
        assert open_clip.get_model_config(name) is not None


def test_no_log_says_random_where_weights_are_loaded(caplog):
    create_clip("ViT-S-32-alt")
    assert "randomly" not in caplog.text
