import numpy as np
import pytest
import torch
from torch import nn

from declip import build_encoder
from declip.distill.step import Distillation
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.views import DistillationViews, ViewSizes
from declip.losses import ContentLoss, ContextLoss, DistillationLoss, StudentFeature, TermLoss
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher
from declip.teachers.targets import CropEmbeddings, Features

TABLE_1 = {
    "self-distillation": ("maskclip", {"content": ContentLoss(8)}),
    "joint": ("maskclip", {"content": ContentLoss(8), "context": ContextLoss("content")}),
    "decoupled": ("qk", {"content": ContentLoss(8), "context": ContextLoss("context")}),
}
WEIGHTS = {"content": 2.0, "context": 0.5}


def distillation(row="decoupled", alpha=1.0):
    torch.manual_seed(0)
    context, terms = TABLE_1[row]
    student = build_encoder("nano", "nano-clip", context=context)
    original = frozen_copy(student)
    teachers = {"clip": ClipTeacher(original), "foundation": FoundationTeacher("nano-vfm", "random")}
    choose_trainable(student, {term.feature for term in terms.values()})
    return Distillation(student, teachers, terms, WEIGHTS, original, alpha)


@pytest.fixture(scope="module")
def batch():
    views = DistillationViews(ViewSizes(student=64, student_patch=8, foundation_patch=8, crop=64), max_split=2)
    torch.manual_seed(2)
    images = [torch.randint(0, 256, (3, 40 + 8 * index, 64), dtype=torch.uint8) for index in range(2)]
    return [views(image, np.random.default_rng(index)) for index, image in enumerate(images)]


@pytest.mark.parametrize("row", TABLE_1)
def test_each_row_of_table_1_has_its_losses_and_trains_all_it_leaves_trainable(row, batch):
    model = distillation(row)
    losses = model(batch)
    assert set(losses) == {f"loss_{name}" for name in TABLE_1[row][1]}
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_losses_carry_their_weights(batch):
    model = distillation()
    weighted = model(batch)
    model.weights = {"content": 1.0, "context": 1.0}
    plain = model(batch)
    torch.testing.assert_close(weighted["loss_content"], 2 * plain["loss_content"])
    torch.testing.assert_close(weighted["loss_context"], 0.5 * plain["loss_context"])


def test_images_of_different_shapes_count_alike(batch):
    assert batch[0]["student"].shape != batch[1]["student"].shape
    model = distillation()
    together, alone = model([batch[0], batch[1], batch[0]]), [model([sample]) for sample in batch]
    for name, loss in together.items():
        torch.testing.assert_close(loss, (2 * alone[0][name] + alone[1][name]) / 3)


def test_recomputing_blocks_changes_no_gradient(batch):
    gradients = []
    for recompute in (False, True):
        model = distillation()
        model.student.recompute = recompute
        sum(model(batch).values()).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)


def test_a_term_of_ones_own_gets_the_targets_it_asks_for(batch):
    class Both(DistillationLoss):
        feature, needs = StudentFeature.CONTENT, (Features, CropEmbeddings)

        def forward(self, features, seen, crops):
            assert isinstance(seen, Features) and isinstance(crops, CropEmbeddings)
            return TermLoss(
                features.content.mean() * len(crops.boxes), {"boxes": torch.tensor(float(len(crops.boxes)))}
            )

    model = distillation()
    model = Distillation(model.student, model.teachers, {"both": Both()}, {"both": 1.0})
    found = model([*batch, batch[0]])
    assert list(found) == ["loss_both", "both/boxes"]
    assert found["both/boxes"] == pytest.approx((2 * 2 + 1) / 3)  # a mean over images


def test_hooks_on_teachers_and_terms_fire(batch):
    model, fired = distillation(), []
    modules = {**model.terms, **model.teachers, "block of a teacher": model.teachers["foundation"].model.blocks[0]}
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    model(batch[:1])
    assert set(fired) == {*modules}


def test_checkpoints_hold_the_student_alone():
    model = distillation(alpha=0.5)
    own = {f"student.{name}" for name in model.student.state_dict()}
    assert set(model.state_dict()) == own
    assert set(nn.ModuleList([model]).state_dict()) == {f"0.{name}" for name in own}


def test_a_checkpoint_restores_the_student_and_leaves_the_teachers():
    model, other = distillation(), distillation()
    for parameter in (
        *other.student.clip.visual.parameters(),
        *other.teachers["clip"].encoder.clip.visual.parameters(),
    ):
        parameter.data.zero_()
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not other.teachers["clip"].encoder.clip.visual.conv1.weight.any()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict({**model.state_dict(), "teachers.clip.encoder.clip.visual.proj": torch.zeros(1)})


def test_teachers_move_with_the_model_and_do_not_train(batch):
    model = distillation(alpha=0.5)
    before = {name: tensor.clone() for name, tensor in model.teachers.named_parameters()}
    sum(model(batch).values()).backward()
    model.train()
    assert model.student.training and not any(module.training for module in model.teachers.modules())
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert training and all(name.startswith("student.clip.visual.") for name in training)
    assert all(p.grad is None and torch.equal(before[name], p) for name, p in model.teachers.named_parameters())
    model.to("meta")
    assert {parameter.device.type for parameter in model.teachers.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.teachers.buffers()} == {"meta"}


def test_the_encoder_to_keep_is_the_student_or_its_interpolation():
    whole, mixed = distillation(), distillation(alpha=0.25)
    assert whole.encoder() is whole.student
    with torch.no_grad():
        mixed.student.clip.visual.conv1.weight.zero_()
    expected = 0.75 * mixed.original.clip.visual.conv1.weight
    torch.testing.assert_close(mixed.encoder().clip.visual.conv1.weight, expected)


def test_terms_that_nothing_can_serve_are_refused():
    student = build_encoder("nano", "nano-clip", context="maskclip")
    clip = {"clip": ClipTeacher(frozen_copy(student))}
    with pytest.raises(ValueError, match=r"terms: 'context' needs .*Features.*none of teachers \['clip'\] gives"):
        Distillation(student, clip, {"context": ContextLoss("content")}, WEIGHTS)
    with pytest.raises(ValueError, match="'context' needs a context feature, which 'maskclip' has not"):
        foundation = {"foundation": FoundationTeacher("nano-vfm", "random")}
        Distillation(student, foundation, {"context": ContextLoss()}, WEIGHTS)
