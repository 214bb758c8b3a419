import pytest
import torch

import declip
from d2host.engine.errors import CheckpointError
from declip.models.factory import create_clip
from declip.models.weights import load_encoder_weights
from declip.weights.layouts import CATSEG_PREFIX, recognise, translate

EVA = {
    "visual.cls_token": "visual.trunk.cls_token",
    "visual.pos_embed": "visual.trunk.pos_embed",
    "visual.patch_embed.proj.weight": "visual.trunk.patch_embed.proj.weight",
    "visual.blocks.0.norm1.weight": "visual.trunk.blocks.0.norm1.weight",
    "visual.blocks.0.attn.q_proj.weight": "visual.trunk.blocks.0.attn.q_proj.weight",
    "visual.blocks.0.attn.k_proj.weight": "visual.trunk.blocks.0.attn.k_proj.weight",
    "visual.blocks.0.attn.q_bias": "visual.trunk.blocks.0.attn.q_proj.bias",
    "visual.blocks.0.attn.v_bias": "visual.trunk.blocks.0.attn.v_proj.bias",
    "visual.blocks.0.attn.inner_attn_ln.weight": "visual.trunk.blocks.0.attn.norm.weight",
    "visual.blocks.0.attn.proj.bias": "visual.trunk.blocks.0.attn.proj.bias",
    "visual.blocks.0.mlp.w1.weight": "visual.trunk.blocks.0.mlp.fc1_g.weight",
    "visual.blocks.0.mlp.w2.bias": "visual.trunk.blocks.0.mlp.fc1_x.bias",
    "visual.blocks.0.mlp.ffn_ln.weight": "visual.trunk.blocks.0.mlp.norm.weight",
    "visual.blocks.0.mlp.w3.weight": "visual.trunk.blocks.0.mlp.fc2.weight",
    "visual.norm.weight": "visual.trunk.norm.weight",
    "visual.head.weight": "visual.trunk.head.weight",
    "text.positional_embedding": "text.positional_embedding",
    "text.transformer.resblocks.0.attn.in_proj_weight": "text.transformer.resblocks.0.attn.in_proj_weight",
    "logit_scale": "logit_scale",
}
EVA_RECOMPUTED = ("visual.rope.freqs_cos", "visual.blocks.0.attn.rope.freqs_sin", "text.attn_mask")


def numbered(keys):
    """A different tensor per key."""
    return {key: torch.full((2,), float(number)) for number, key in enumerate(keys)}


@pytest.mark.parametrize(("prefix", "layout"), [("", "EVA-CLIP"), (CATSEG_PREFIX, "CAT-Seg on EVA-CLIP")])
def test_every_tensor_of_eva_clip_finds_its_place(prefix, layout):
    state = numbered([prefix + key for key in (*EVA, *EVA_RECOMPUTED)])
    own = numbered(EVA.values())
    translation = translate(state, own)
    assert translation.layout == layout and not translation.quick_gelu
    assert translation.state.keys() == own.keys()
    assert all(torch.equal(translation.state[new], state[prefix + old]) for old, new in EVA.items())
    assert set(translation.left_out) == {prefix + key for key in EVA_RECOMPUTED}


def catseg_clip(width=16):
    names = (
        "visual.transformer.resblocks.0.attn.{}_proj_weight",
        "visual.transformer.resblocks.0.attn.out_proj.weight",
        "transformer.resblocks.0.attn.in_proj_weight",
    )
    state = {names[0].format(which): torch.full((width, width), number) for number, which in enumerate("qkv")}
    state |= {name: torch.randn(width, width) for name in names[1:]}
    state["visual.conv1.weight"] = torch.randn(width, 3, 4, 4)
    return {CATSEG_PREFIX + key: tensor for key, tensor in state.items()}


def test_catsegs_separate_projections_become_one_and_its_head_is_left_out():
    state = catseg_clip() | {
        "upsample1.weight": torch.ones(1),
        "sem_seg_head.predictor.transformer.conv1.bias": torch.ones(1),
    }
    translation = translate(state, {})
    joined = translation.state["visual.transformer.resblocks.0.attn.in_proj_weight"]
    assert joined.shape == (48, 16) and joined[:, 0].unique(return_counts=True)[1].tolist() == [16, 16, 16]
    assert joined[0, 0] < joined[16, 0] < joined[32, 0]
    assert not any("q_proj" in key for key in translation.state)
    assert set(translation.left_out) == {"upsample1.weight", "sem_seg_head.predictor.transformer.conv1.bias"}


def test_openais_activation_is_remembered():
    assert recognise({"input_resolution": torch.tensor(224), "visual.proj": torch.ones(1)}).name == "OpenAI CLIP"
    assert translate(catseg_clip(), {}).quick_gelu
    assert not translate({"visual.proj": torch.ones(1)}, {}).quick_gelu
    wide = {CATSEG_PREFIX + "visual.conv1.weight": torch.ones(1280, 3, 1, 1)}  # ViT-H is open_clip's
    assert not translate(wide, {}).quick_gelu


def test_openais_weights_are_refused_by_a_model_without_its_activation(tmp_path):
    state = create_clip("nano").clip.state_dict() | {"input_resolution": torch.tensor(128)}
    torch.save(state, tmp_path / "openai.pt")
    with pytest.raises(CheckpointError, match=r"OpenAI CLIP\) was trained with QuickGELU.*build 'nano-quickgelu'"):
        load_encoder_weights(declip.build_encoder("nano", "random"), tmp_path / "openai.pt")


def test_positions_of_another_resolution_are_resampled(tmp_path):
    clip = create_clip("nano").clip
    state = clip.state_dict()
    rows = torch.linspace(0, 1, 8).repeat_interleave(8)[:, None].expand(64, 128)
    state["visual.positional_embedding"] = torch.cat([torch.full((1, 128), 9.0), rows])
    torch.save(state, tmp_path / "small.pt")
    encoder = declip.build_encoder("nano", "random")
    translation = load_encoder_weights(encoder, tmp_path / "small.pt")
    assert translation.resampled == ("visual.positional_embedding: (65, 128) -> (257, 128)",)
    positions = encoder.clip.visual.positional_embedding
    assert positions[0, 0] == 9 and (positions[1::16][:16, 0].diff() > -1e-3).all()


def test_what_nobody_knows_is_refused(tmp_path):
    torch.save(create_clip("nano").clip.state_dict() | {"visual.adapter": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"open_clip\) does not fit 'nano': 1 unexpected \(visual\.adapter\)"):
        declip.build_encoder("nano", str(tmp_path / "w.pt"))
