import pytest
import torch

from declip import build_encoder
from declip.distill.student import choose_trainable, frozen_copy, interpolate, trainable_names
from declip.losses import StudentFeature
from declip.models.attention import ContextType

CONTENT, CONTEXT = StudentFeature


@pytest.fixture(scope="module", params=["openclip", "coca", "eva", "eva01", "eva-enormous", "pe", "siglip", "vitamin"])
def encoder(request, small_encoder):
    """An encoder of three narrow blocks in float64, every parameter random."""
    return small_encoder(request.param).double()


def with_gradient(encoder, features):
    """Names of the parameters that the features depend on, by a backward pass."""
    images = torch.randn(2, 3, 48, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = encoder.requires_grad_(True).encode_dense(images)
    learning = [found.content] * (CONTENT in features) + [*found.context] * (CONTEXT in features)
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    gradients = torch.autograd.grad(sum(each.sin().sum() for each in learning), parameters, allow_unused=True)
    pairs = zip(names, gradients, strict=True)
    return {name for name, gradient in pairs if gradient is not None and gradient.abs().max() > 1e-9}


LEARNING = [
    pytest.param(context, features, id=f"{context.value}-{'+'.join(sorted(features))}")
    for context in ContextType
    for features in ({CONTENT}, {CONTEXT}, {CONTENT, CONTEXT})
    if context.decoupled or features == {CONTENT}
]


@pytest.mark.parametrize(("context", "features"), LEARNING)
def test_exactly_the_parameters_named_get_a_gradient(encoder, context, features):
    if context is ContextType.CATSEG and not encoder.image_tower.num_prefix_tokens:
        pytest.skip("there is no class token")
    encoder.context = context
    assert trainable_names(encoder, features) == with_gradient(encoder, features)


@pytest.mark.parametrize("last_n_blocks", [1, 2, 3])
def test_only_the_last_blocks_and_what_follows_them_train_where_asked(encoder, last_n_blocks):
    encoder.context = ContextType.QK
    names = trainable_names(encoder, {CONTENT, CONTEXT}, last_n_blocks)
    kept = set()
    for block in encoder.image_tower.blocks[-last_n_blocks:]:
        kept |= {id(parameter) for parameter in block.parameters()}
    behind = ("ln_post", "visual.proj", "trunk.norm.", "fc_norm", "attn_pool", "head")
    everything = dict(encoder.named_parameters())
    expected = {
        name
        for name in trainable_names(encoder, {CONTENT, CONTEXT})
        if id(everything[name]) in kept or any(part in name for part in behind)
    }
    assert names == expected


def test_choosing_lets_nothing_else_train():
    student = build_encoder("nano", "nano-clip", context="qk")
    choose_trainable(student, {CONTENT}, last_n_blocks=2)
    training = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert training == trainable_names(student, {CONTENT}, 2)
    assert {name.split("resblocks.")[1][0] for name in training if "resblocks." in name} == {"4", "5"}


def test_more_blocks_than_there_are_cannot_train():
    with pytest.raises(ValueError, match="last_n_blocks is 9: 'nano' has 6 blocks"):
        trainable_names(build_encoder("nano", "nano-clip"), {CONTENT}, last_n_blocks=9)


def test_the_original_keeps_its_image_tower_and_shares_the_text_tower():
    student = build_encoder("nano", "nano-clip")
    original = frozen_copy(student)
    before = original.clip.visual.conv1.weight.clone()
    with torch.no_grad():
        student.clip.visual.conv1.weight.zero_()
    assert torch.equal(original.clip.visual.conv1.weight, before)
    assert original.image_tower.visual is original.clip.visual
    assert original.clip.token_embedding.weight is student.clip.token_embedding.weight


def test_interpolation_mixes_student_and_original_and_leaves_both():
    student, original = (build_encoder("nano", weights) for weights in ("nano-declip", "nano-clip"))
    own, other = student.clip.visual.conv1.weight.clone(), original.clip.visual.conv1.weight.clone()
    mixed = interpolate(student, original, 0.75)
    torch.testing.assert_close(mixed.clip.visual.conv1.weight, 0.75 * own + 0.25 * other)
    assert torch.equal(student.clip.visual.conv1.weight, own)
    assert torch.equal(original.clip.visual.conv1.weight, other)
    assert mixed.context is student.context and not mixed.training
