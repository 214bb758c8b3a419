"""How encoders attend is written into configs, those of CAT-Seg for one."""

import pytest
import torch

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from d2host import build_model
from d2host.engine.state import plain
from declip.models.factory import build_encoder
from declip.models.stated import state_attention
from declip.models.weights import save_encoder


@pytest.fixture
def maskclip_weights(tmp_path):
    encoder = build_encoder("nano", "nano-clip", context="maskclip", attention_scale="none")
    return save_encoder(encoder, tmp_path / "maskclip.safetensors")


LEFT_OPEN = ["MODEL.ENCODER.CONTEXT", "", "MODEL.ENCODER.ATTENTION_SCALE", ""]


def test_how_the_weights_attend_is_stated_in_the_config(maskclip_weights):
    weights = ["MODEL.ENCODER.WEIGHTS", str(maskclip_weights)]
    cfg = get_catseg_cfg("declip_catseg_nano.yaml", [*LEFT_OPEN, *weights])
    state_attention(cfg)
    assert (cfg.MODEL.ENCODER.CONTEXT, cfg.MODEL.ENCODER.ATTENTION_SCALE) == ("maskclip", "none")
    cfg = get_catseg_cfg("declip_catseg_nano.yaml", [*LEFT_OPEN, *weights, "MODEL.ENCODER.CONTEXT", "q"])
    state_attention(cfg)
    assert (cfg.MODEL.ENCODER.CONTEXT, cfg.MODEL.ENCODER.ATTENTION_SCALE) == ("q", "none")


def test_a_run_is_evaluated_as_it_was_trained_whatever_weights_its_encoder_would_have(maskclip_weights, tmp_path):
    cfg = get_catseg_cfg("declip_catseg_nano.yaml", [*LEFT_OPEN, "MODEL.ENCODER.WEIGHTS", str(maskclip_weights)])
    state_attention(cfg)
    training = {"iteration": 1, "optimizer": {}, "scaler": {}, "generators": [], "config": plain(cfg)}
    torch.save({"model": {"weight": torch.randn(2)}, "training": training}, tmp_path / "model_final.pth")
    whole = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth"), "MODEL.DEVICE", "cpu"]
    for options in (["MODEL.ENCODER.WEIGHTS", ""], ["MODEL.ENCODER.WEIGHTS", "nano-declip"]):  # both of no account
        encoder = build_model(get_catseg_cfg("declip_catseg_nano.yaml", [*LEFT_OPEN, *whole, *options])).encoder
        assert (encoder.context.value, encoder.attention_scale.value) == ("maskclip", "none")
