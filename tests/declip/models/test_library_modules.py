"""The libraries' modules are called as such: hooks fire, wrapped layers act, dropping acts in training alone."""

import re

import pytest
import torch
from open_clip.transformer import PatchDropout
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize

from declip.contexts import ContextType
from declip.models.encoder import DenseCLIP
from declip.models.fused import fused_form

TOKENS = torch.tensor([[1, 2, 3, 19, 0, 0, 0, 0], [1, 4, 19, 0, 0, 0, 0, 0]])
NEVER_CALLED = (
    # containers whose parts are called one by one
    r"(visual|visual\.trunk|visual\.transformer|.*blocks)",
    # torch's attention uses the weights of its output projection, timm's blocks the angles of their embedding's module,
    # timm's attention the rates of its dropout, that of EVA-01 the weights of its projection
    r".*\.attn\.out_proj",
    r"visual\.trunk\.rope",
    r".*attn\.attn_drop",
    r".*blocks\.\d+\.attn\.qkv",
    # there may be no positions to drop
    r"visual\.trunk\.pos_drop",
)
LEFT_OUT_OF_A_DECOUPLED_BLOCK = (
    # attention is computed on other terms; residual and feed-forward half do not exist
    r".*blocks\.2(\.attn(\.(q_norm|k_norm|norm|attn_drop))?)?",
    r".*blocks\.2\.(drop_path\d|ln_2|norm2|ls_2|ls2|mlp.*)",
)
NEEDS_EVERY_PATCH = (r"visual\.(trunk\.patch_drop|patch_dropout)",)
ASKS_ONCE = (r"visual\.attn_pool",)  # its queries agree on a token that they see alone


def images(height=64, width=64, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def silent(root, prefix, call, but):
    """Names of modules whose forward hook does not fire during a call, except those that match ``but``."""
    fired, handles = set(), []
    for name, module in root.named_modules(prefix=prefix):
        handles.append(module.register_forward_hook(lambda *_, name=name: fired.add(name)))
    call()
    for handle in handles:
        handle.remove()
    names = {name for name, _ in root.named_modules(prefix=prefix)} - fired
    return {name for name in names if not any(re.fullmatch(pattern, name) for pattern in but)}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_forward_hook_on_every_module_of_the_image_tower_fires(small_encoder, family, training, grad):
    encoder = small_encoder(family).train(training)
    dense = (*NEVER_CALLED, *NEEDS_EVERY_PATCH, *ASKS_ONCE)
    runs = {
        "encode_image": (lambda: encoder.encode_image(images()), NEVER_CALLED),
        "qk": (lambda: encoder.encode_dense(images()), (*dense, *LEFT_OUT_OF_A_DECOUPLED_BLOCK)),
        "maskclip": (
            lambda: encoder.encode_contexts(images(), [ContextType.MASKCLIP]),
            (*dense, LEFT_OUT_OF_A_DECOUPLED_BLOCK[0]),
        ),
        "vanilla": (lambda: encoder.encode_contexts(images(), [ContextType.VANILLA]), dense),
    }
    if family == "eva":  # its inner norm belongs to the output projection, which every context keeps
        assert "visual.trunk.blocks.2.attn.norm" in dict(encoder.clip.named_modules())
    with torch.set_grad_enabled(grad):
        for run, (call, but) in runs.items():
            assert silent(encoder.clip.visual, "visual", call, but) == set(), run


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("pool", ["argmax", "last", "eos"])
def test_a_forward_hook_on_every_module_of_the_text_tower_fires(small_encoder, pool, training, grad):
    encoder = small_encoder("eva", text={"pool_type": pool, "eos_id": 19}).train(training)
    but = (r"text", r".*resblocks", r".*attn\.out_proj") if pool == "argmax" else (r".*resblocks", r".*attn\.out_proj")
    with torch.set_grad_enabled(grad):
        assert silent(encoder.clip.text, "text", lambda: encoder.encode_text(TOKENS), but) == set()


def test_a_hook_on_the_encoder_fires(small_encoder):
    encoder, seen = small_encoder("openclip"), []
    encoder.register_forward_hook(lambda *_: seen.append(True))
    encoder.encode_dense(images())
    assert seen


class LoRA(nn.Module):
    """A layer with a low-rank addition."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class LowRank(nn.Module):
    """The same for a parameter."""

    def __init__(self, shape, rank=2):
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(rank, shape[1])), nn.Parameter(torch.randn(shape[0], rank))

    def forward(self, weight):
        return weight + self.up @ self.down


LAYERS = {
    "eva": ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj", "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),
    "siglip": ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"),
    "openclip": ("mlp.c_fc", "mlp.c_proj"),
}
CASES = [
    (family, name, block)
    for family, names in LAYERS.items()
    for name in names
    for block in (0, 2)
    if block == 0 or name.startswith("attn")  # the decoupled block has no feed-forward half
]


@pytest.mark.parametrize(("family", "name", "block"), CASES)
def test_a_wrapped_layer_acts_and_trains(small_encoder, family, name, block):
    encoder = small_encoder(family)
    with torch.no_grad():
        before = encoder.encode_dense(images()).content, encoder.encode_image(images())
    parent, _, attribute = name.rpartition(".")
    parent = encoder.image_tower.blocks[block].get_submodule(parent)
    wrapped = LoRA(getattr(parent, attribute))
    setattr(parent, attribute, wrapped)
    check_it_acts_and_trains(encoder, before, wrapped.up.weight)


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("name", ["attn.in_proj_weight", "attn.out_proj.weight"])
def test_a_parametrised_attention_of_torch_acts_and_trains(small_encoder, name, block):
    """``nn.MultiheadAttention`` reads weights, so that a low-rank addition belongs to the parameter."""
    encoder = small_encoder("openclip")
    with torch.no_grad():
        before = encoder.encode_dense(images()).content, encoder.encode_image(images())
    owner, _, attribute = name.rpartition(".")
    owner = encoder.image_tower.blocks[block].get_submodule(owner)
    addition = LowRank(getattr(owner, attribute).shape)
    parametrize.register_parametrization(owner, attribute, addition)
    check_it_acts_and_trains(encoder, before, addition.up)


def check_it_acts_and_trains(encoder, before, added):
    with torch.no_grad():
        after = encoder.encode_dense(images()).content, encoder.encode_image(images())
    assert not any(torch.allclose(*pair) for pair in zip(before, after, strict=True))
    for output in (encoder.encode_dense(images()).content, encoder.encode_image(images())):
        encoder.zero_grad()
        output.square().mean().backward()
        assert added.grad.abs().sum() > 0


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("family", ["eva", "siglip"])
def test_stochastic_depth_acts_in_training_and_not_in_evaluation(small_encoder, family, grad):
    encoder = small_encoder(family, drop_path=0.9)
    contexts = [ContextType.QK, ContextType.VANILLA, ContextType.MASKCLIP]
    with torch.set_grad_enabled(grad):
        sure = encoder.encode_contexts(images(), contexts)
        again = encoder.eval().encode_contexts(images(), contexts)
        torch.manual_seed(0)
        chance = encoder.train().encode_contexts(images(), contexts)
    for context in contexts:
        assert torch.equal(sure[context].content, again[context].content)
        assert not torch.allclose(sure[context].content, chance[context].content)


@pytest.mark.parametrize("grad", [False, True])
def test_patch_dropout_acts_on_image_embeddings_in_training_and_leaves_dense_maps_whole(small_encoder, family, grad):
    encoder = small_encoder(family, patch_drop=0.5)
    if family == "openclip":
        assert isinstance(encoder.clip.visual.patch_dropout, PatchDropout)
    with torch.set_grad_enabled(grad):
        dense, image = encoder.encode_dense(images(64, 96)).content, encoder.encode_image(images(64, 96))
        encoder.train()
        torch.testing.assert_close(encoder.encode_dense(images(64, 96)).content, dense, rtol=1e-4, atol=1e-4)
        torch.manual_seed(0)
        assert not torch.allclose(encoder.encode_image(images(64, 96)), image)
        torch.manual_seed(0)
        library = encoder.clip.encode_image(images(), normalize=False)
        torch.manual_seed(0)
        torch.testing.assert_close(encoder.encode_image(images()), library, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [None, 1])
@pytest.mark.parametrize("family", ["openclip", "eva"])
def test_the_faster_form_of_a_block_is_equal_to_the_block(small_encoder, family, count):
    tower = small_encoder(family).image_tower
    with torch.no_grad():
        tokens = tower.embed(images(48, 80))
        assert fused_form(tower.blocks[1]) is not None
        fused = tower.run_block(1, tokens, count).x
    plain = tower.run_block(1, tokens, count).x
    assert fused.shape[1] == (count or plain.shape[1])
    torch.testing.assert_close(fused, plain[:, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["openclip", "eva"])
def test_the_faster_form_steps_aside_for_what_it_would_pass_by(small_encoder, family):
    block = small_encoder(family).image_tower.blocks[1]
    assert fused_form(block) is None  # gradients are wanted
    with torch.no_grad():
        assert fused_form(block) is not None
        for module in (block, block.attn):
            handle = module.register_forward_hook(lambda *_: None)
            assert fused_form(block) is None
            handle.remove()
        handle = register_module_forward_hook(lambda *_: None)
        assert fused_form(block) is None
        handle.remove()
        block.train()
        assert fused_form(block) is not None
        setattr(*((block.attn, "dropout", 0.1) if family == "openclip" else (block.attn.attn_drop, "p", 0.1)))
        assert fused_form(block) is None
        block.eval()
        assert fused_form(block) is not None
        block.attn = nn.Identity()
        assert fused_form(block) is None


@pytest.mark.parametrize("pool", ["argmax", "eos", "last", "first"])
@pytest.mark.parametrize("family", ["openclip", "eva"])
def test_text_embeddings_are_the_librarys_own_under_every_pooling(small_encoder, family, pool):
    encoder: DenseCLIP = small_encoder(family, text={"pool_type": pool, "eos_id": 19})
    torch.testing.assert_close(encoder.encode_text(TOKENS), encoder.clip.encode_text(TOKENS), rtol=1e-4, atol=1e-4)


def test_image_embeddings_are_the_librarys_own_in_training_and_evaluation(small_encoder, family):
    encoder = small_encoder(family)
    for training in (False, True):
        encoder.train(training)
        with torch.no_grad():
            expected = encoder.clip.encode_image(images(), normalize=False)
            torch.testing.assert_close(encoder.encode_image(images()), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoder.encode_image(images()), expected, rtol=1e-4, atol=1e-4)
