"""Every door by which weights come in, and tensors that no model can have."""

import open_clip
import pytest
import timm
import torch

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.checkpoint import load_model_weights, split_guided, to_public, translate_catseg
from catseg.config import get_catseg_cfg
from d2host import HOST, DetectionCheckpointer, build_model
from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError
from declip import build_encoder
from declip.models.factory import create_clip
from declip.models.weights import load_encoder_weights, save_encoder
from declip.teachers.foundation import FoundationTeacher
from declip.weights.layouts import translate
from nanoworld.vfm import create_nano_vfm

TINY_TEACHER = "vit_tiny_patch16_224"
POISONS = {
    "one NaN": lambda tensor: tensor.flatten().index_fill(0, torch.tensor([5]), float("nan")).view(tensor.shape),
    "infinity": lambda tensor: tensor.flatten().index_fill(0, torch.tensor([5]), float("inf")).view(tensor.shape),
    "zeros": torch.zeros_like,
    "integers": lambda tensor: (tensor * 100).to(torch.int32),
    "nothing": lambda tensor: tensor[:0],
    "one value repeated": lambda tensor: tensor.flatten()[0].clone().expand(tensor.shape),
}


def nano_clip():
    return create_clip("nano").clip.state_dict()


def whole_model():
    opts = ["MODEL.ENCODER.WEIGHTS", "random", "MODEL.DEVICE", "cpu"]
    return build_model(get_catseg_cfg("declip_catseg_nano.yaml", opts))


MODEL = whole_model()
DOORS = {
    "encoder": (nano_clip, "visual.proj", lambda path: build_encoder("nano", str(path))),
    "wrapped encoder": (
        lambda: {"state_dict": {f"module.{name}": tensor for name, tensor in nano_clip().items()}},
        "module.visual.transformer.resblocks.0.attn.in_proj_weight",
        lambda path: build_encoder("nano", str(path)),
    ),
    "text tower": (nano_clip, "text_projection", lambda path: build_encoder("nano", str(path))),
    "whole model": (MODEL.state_dict, "sem_seg_head.upsample1.weight", lambda path: load_model_weights(path, MODEL)),
    "public model": (
        lambda: to_public(MODEL.state_dict()),
        "sem_seg_head.predictor.clip_model.visual.proj",
        lambda path: load_model_weights(path, MODEL),
    ),
    "Detectron2's checkpointer": (
        lambda: {"model": MODEL.sem_seg_head.state_dict()},
        "upsample1.weight",
        lambda path: DetectionCheckpointer(MODEL.sem_seg_head).load(str(path)),
    ),
    "nano teacher": (
        lambda: create_nano_vfm("nano-vfm").state_dict(),
        "blocks.0.attn.qkv.weight",
        lambda path: FoundationTeacher("nano-vfm", str(path)),
    ),
    "teacher of timm": (
        lambda: timm.create_model(TINY_TEACHER, num_classes=0).state_dict(),
        "blocks.0.attn.qkv.weight",
        lambda path: FoundationTeacher(TINY_TEACHER, str(path)),
    ),
}


@pytest.fixture(scope="module", params=DOORS)
def door(request):
    if request.param == "Detectron2's checkpointer" and HOST.name != "embedded":
        pytest.skip("Detectron2 itself loads whatever fits")
    make, key, load = DOORS[request.param]
    return make(), key, load


@pytest.mark.parametrize("poison", POISONS)
def test_no_door_lets_such_weights_in(door, poison, tmp_path):
    state, key, load = door
    inner = next((state[wrapper] for wrapper in ("state_dict", "model") if wrapper in state), state)
    content = {**inner, key: POISONS[poison](inner[key])}
    torch.save(content if inner is state else {"model": content}, tmp_path / "poisoned.pth")
    with pytest.raises(CheckpointError, match=r"poisoned\.pth.*") as caught:
        load(tmp_path / "poisoned.pth")
    assert key.removeprefix("module.") in str(caught.value)


def test_weights_by_tag_are_checked(monkeypatch):
    def damaged(name, **options):
        clip = create_clip("nano").clip
        clip.visual.proj.data[3, 4] = float("nan")
        return clip

    monkeypatch.setattr(open_clip, "create_model", damaged)
    with pytest.raises(CheckpointError, match=r"'openai' of 'ViT-B-16' cannot be used, visual\.proj has values"):
        create_clip("ViT-B-16", "openai")


@pytest.mark.parametrize(
    "error", [OSError("no network"), RuntimeError("two\nlines"), EOFError(), ValueError("bad"), MemoryError()]
)
def test_what_keeps_a_tag_from_being_loaded_is_one_sentence(monkeypatch, error):
    def failing(name, **options):
        raise error

    monkeypatch.setattr(open_clip, "create_model", failing)
    with pytest.raises(ValueError, match="weights 'openai' of 'ViT-B-16' could not be downloaded or read") as caught:
        create_clip("ViT-B-16", "openai")
    assert "\n" not in str(caught.value)


def test_an_encoder_keeps_its_weights_when_a_file_is_refused(tmp_path):
    encoder = build_encoder("nano", "nano-clip")
    before = {name: tensor.clone() for name, tensor in encoder.clip.state_dict().items()}
    torch.save({**before, "visual.proj": torch.zeros(128, 128)}, tmp_path / "zeros.pth")
    with pytest.raises(CheckpointError, match=r"visual\.proj of shape"):
        load_encoder_weights(encoder, tmp_path / "zeros.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.clip.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_could_not_be_loaded_again_are_not_written(tmp_path, value):
    encoder = build_encoder("nano", "nano-clip")
    encoder.clip.visual.proj.data[0, 0] = value
    state = {name: tensor.half() for name, tensor in encoder.clip.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"would be written to .*w\.safetensors cannot be used, visual\.proj"):
        save_encoder(encoder, tmp_path / "w.safetensors", state)
    assert not list(tmp_path.iterdir())


SHAPES = {
    "a number": lambda tensor: tensor.flatten()[0],
    "a row": lambda tensor: tensor.flatten(),
    "one more dimension": lambda tensor: tensor[None].repeat(2, *[1] * tensor.dim()),
    "turned or cut": lambda tensor: tensor.T.contiguous() if tensor.dim() == 2 else tensor.reshape(-1)[..., :1],
    "longer": lambda tensor: torch.cat([tensor, tensor]) if tensor.dim() else tensor.repeat(2),
    "complex": lambda tensor: tensor.to(torch.complex64),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("whole", [False, True], ids=["encoder", "public model"])
def test_tensors_of_another_shape_are_named_whichever_they_are(whole, shape):
    own = MODEL.state_dict() if whole else nano_clip()
    state = to_public(own) if whole else own
    for key, tensor in list(state.items())[:: 7 if whole else 1]:
        changed = SHAPES[shape](tensor)
        if changed.numel() == tensor.numel() and (whole or changed.shape == tensor.shape) and not changed.is_complex():
            continue  # of public models, padding tokens and the like are taken in any shape that holds as much
        damaged = {**state, key: changed}
        named = split_guided(translate_catseg(damaged, own).state, own) if whole else translate(damaged, own).state
        assert describe_mismatch(own, named), key
