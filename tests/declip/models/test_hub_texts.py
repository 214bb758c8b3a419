"""Text towers of Hugging Face's transformers, made of configurations of their own instead of downloaded ones."""

import open_clip
import pytest
import torch

from declip.models.encoder import DenseCLIP
from declip.models.finetuning import FinetunePolicy, apply_finetuning

transformers = pytest.importorskip("transformers")

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
HEADS = {f"{half}_attention_heads": 2 for half in ("encoder", "decoder")}
M2M = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, **HEADS}
TEXTS = {
    "roberta-ViT-B-32": ("RobertaConfig", BERT, "query"),
    "xlm-roberta-base-ViT-B-32": ("XLMRobertaConfig", BERT, "value"),
    "mt5-base-ViT-B-32": ("MT5Config", {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}, "q"),
    "nllb-clip-base": ("M2M100Config", M2M, "v_proj"),
    "coca_roberta-ViT-B-32": ("RobertaConfig", BERT, "query"),
}
VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32, "output_tokens": True}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_encoded_by_the_librarys_own_tower_and_its_queries_and_values_train(name, monkeypatch):
    kind, sizes, trained = TEXTS[name]
    config = getattr(transformers, kind)(vocab_size=60, max_position_embeddings=40, **sizes)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: config)
    vision = VISION if "coca" in name else {**VISION, "output_tokens": False}
    clip = open_clip.create_model(name, pretrained_text=False, embed_dim=24, vision_cfg=vision)
    statistics = {"pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3}
    encoder = DenseCLIP(clip, name=name, tokenizer=None, **statistics).eval()
    tokens = torch.tensor([[0, 5, 6, 2, 1, 1], [0, 7, 2, 1, 1, 1]])
    with torch.no_grad():
        expected = clip.encode_text(tokens, normalize=False)
        torch.testing.assert_close(encoder.encode_text(tokens), expected)
    assert expected.shape == (2, 24)
    apply_finetuning(encoder, FinetunePolicy.ATTENTION)
    training = [name for name, parameter in clip.text.named_parameters() if parameter.requires_grad]
    assert any(trained in name.split(".") for name in training)
    assert not any(part in name.split(".") for name in training for part in ("key", "k", "k_proj", "dense", "wi"))
