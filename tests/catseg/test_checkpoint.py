import re

import pytest
import torch

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.checkpoint import (
    HEAD_RENAMES,
    is_public_catseg,
    join_guided,
    load_model_weights,
    to_public,
    to_public_clip,
)
from catseg.config import get_catseg_cfg
from d2host import build_model
from d2host.engine.errors import CheckpointError
from declip.weights.layouts import CATSEG_PREFIX, translate


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(get_catseg_cfg("declip_catseg_nano.yaml", ["MODEL.DEVICE", "cpu"])).eval()


PUBLIC_NAMES = {
    "embed.weight": "conv1.weight",
    "appearance_projection.bias": "guidance_projection.0.bias",
    "text_projection.weight": "text_guidance_projection.0.weight",
    "decoder_projections.1.weight": "decoder_guidance_projection.1.0.weight",
    "layers.0.spatial.guidance_norm.bias": "layers.0.swin_block.guidance_norm.bias",
    "decoder.classify.weight": "head.weight",
}
SWIN = {
    "norm1": "norm1",
    "norm2": "norm2",
    "query": "attn.q",
    "key": "attn.k",
    "value": "attn.v",
    "project": "attn.proj",
    "expand": "mlp.fc1",
    "contract": "mlp.fc2",
}
CATEGORY = {
    "norm1": "norm1",
    "norm2": "norm2",
    "query": "attention.q",
    "key": "attention.k",
    "value": "attention.v",
    "expand": "MLP.0",
    "contract": "MLP.2",
}
DECODER = {"up": "up", "conv1": "conv.double_conv.0", "norm1": "conv.double_conv.1"}
DECODER |= {"conv2": "conv.double_conv.3", "norm2": "conv.double_conv.4"}
for kind in ("weight", "bias"):
    for ours, theirs in {"block": "block_1", "shifted_block": "block_2"}.items():
        for layer, public in SWIN.items():
            PUBLIC_NAMES[f"layers.0.spatial.{ours}.{layer}.{kind}"] = f"layers.0.swin_block.{theirs}.{public}.{kind}"
    for layer, public in CATEGORY.items():
        PUBLIC_NAMES[f"layers.0.category.{layer}.{kind}"] = f"layers.0.attention.{public}.{kind}"
    for stage in (1, 2):
        for layer, public in DECODER.items():
            PUBLIC_NAMES[f"decoder.stage{stage}.{layer}.{kind}"] = f"decoder{stage}.{public}.{kind}"
    for layer in ("conv1", "guidance_projection.0", "text_guidance_projection.0"):
        ours = {"c": "embed", "g": "appearance_projection", "t": "text_projection"}[layer[0]]
        PUBLIC_NAMES[f"{ours}.{kind}"] = f"{layer}.{kind}"
    for stage in (0, 1):
        PUBLIC_NAMES[f"decoder_projections.{stage}.{kind}"] = f"decoder_guidance_projection.{stage}.0.{kind}"
    PUBLIC_NAMES[f"layers.0.spatial.guidance_norm.{kind}"] = f"layers.0.swin_block.guidance_norm.{kind}"
    PUBLIC_NAMES[f"decoder.classify.{kind}"] = f"head.{kind}"


def public_state(model):
    """The model's tensors under the names of the public release."""
    state = {"sem_seg_head.predictor.transformer.layers.0.swin_block.block_2.attn_mask": torch.zeros(4, 9, 9)}
    head = "sem_seg_head.aggregator."
    for key, tensor in join_guided(model.state_dict()).items():
        if key.endswith("in_proj_weight"):
            stem = key.replace("encoder.clip.", CATSEG_PREFIX).removesuffix("in_proj_weight")
            state |= {f"{stem}{which}_proj_weight": part for which, part in zip("qkv", tensor.chunk(3), strict=True)}
        elif key.startswith("encoder.clip."):
            state[CATSEG_PREFIX + key.removeprefix("encoder.clip.")] = tensor
        elif key.startswith("sem_seg_head.upsample"):
            state[key.removeprefix("sem_seg_head.")] = tensor
        elif "padding" in key:
            public = key.removeprefix(head).replace("category", "attention").replace("token", "tokens")
            state[f"sem_seg_head.predictor.transformer.{public}"] = tensor[None, None]
        else:
            state["sem_seg_head.predictor.transformer." + PUBLIC_NAMES[key.removeprefix(head)]] = tensor
    return state


def test_a_public_release_loads_tensor_by_tensor(model, tmp_path, monkeypatch):
    original = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    torch.save({"model": public_state(model), "iteration": 3}, tmp_path / "release.pth")
    monkeypatch.setattr(type(model.encoder), "uses_quick_gelu", True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_model_weights(tmp_path / "release.pth", model)
    assert all(torch.equal(tensor, original[key]) for key, tensor in model.state_dict().items())


def test_a_model_is_written_as_the_public_release_has_it(model):
    written, expected = to_public(model.state_dict()), public_state(model)
    recomputed = {key for key in expected if key.endswith("attn_mask")}
    assert written.keys() == expected.keys() - recomputed
    assert all(torch.equal(tensor, expected[key]) for key, tensor in written.items())


def test_an_eva_clip_is_written_and_read_under_its_public_names():
    own = {
        f"{stem}.{kind}": torch.randn(2)
        for stem in (
            "visual.trunk.patch_embed.proj",
            *(f"visual.trunk.blocks.0.attn.{layer}" for layer in ("q_proj", "k_proj", "v_proj", "norm", "proj")),
            *(f"visual.trunk.blocks.0.mlp.{layer}" for layer in ("fc1_g", "fc1_x", "fc2", "norm")),
            "text.transformer.resblocks.0.attn.out_proj",
        )
        for kind in ("weight", "bias")
    }
    public = {CATSEG_PREFIX + name: tensor for name, tensor in to_public_clip(own).items()}
    assert f"{CATSEG_PREFIX}visual.blocks.0.attn.q_bias" in public
    translation = translate(public, own)
    assert translation.layout == "CAT-Seg on EVA-CLIP" and translation.state.keys() == own.keys()
    assert all(translation.state[name] is tensor for name, tensor in own.items())


def test_checkpoints_with_projections_of_features_and_guidance_in_one_still_load(model, tmp_path):
    torch.save({"model": join_guided(model.state_dict()), "training": {}}, tmp_path / "earlier.pth")
    original = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_model_weights(tmp_path / "earlier.pth", model)
    assert all(torch.equal(tensor, original[key]) for key, tensor in model.state_dict().items())


def test_a_release_on_openais_clip_needs_its_activation(model, tmp_path):
    torch.save(public_state(model), tmp_path / "release.pth")
    with pytest.raises(CheckpointError, match=r"QuickGELU.*set MODEL\.ENCODER\.NAME nano-quickgelu"):
        load_model_weights(tmp_path / "release.pth", model)


def test_our_own_checkpoints_are_not_taken_for_public_ones(model, tmp_path):
    assert is_public_catseg(public_state(model)) and not is_public_catseg(model.state_dict())
    torch.save({"model": model.state_dict(), "training": {}}, tmp_path / "ours.pth")
    load_model_weights(tmp_path / "ours.pth", model)


def test_bad_files_are_named(model, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"checkpoint .*none\.pth does not exist: check MODEL\.WEIGHTS"):
        load_model_weights(tmp_path / "none.pth", model)
    state = public_state(model)
    state["sem_seg_head.predictor.transformer.head.weight"] = torch.randn(1, 9, 3, 3)
    del state["upsample1.bias"]
    torch.save(state, tmp_path / "other.pth")
    monkeypatch.setattr(type(model.encoder), "uses_quick_gelu", True)
    with pytest.raises(
        CheckpointError, match=r"1 missing \(sem_seg_head\.upsample1\.bias\); 1 of wrong shape \(.*classify"
    ):
        load_model_weights(tmp_path / "other.pth", model)


def test_every_rename_is_used(model):
    keys = list(public_state(model))
    unused = []
    for index, (pattern, _) in enumerate(HEAD_RENAMES):
        names = keys
        for earlier, replacement in HEAD_RENAMES[:index]:
            names = [re.sub(earlier, replacement, name) for name in names]
        if not any(re.search(pattern, name) for name in names):
            unused.append(pattern)
    assert not unused
