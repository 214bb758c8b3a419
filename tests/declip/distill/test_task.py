import numpy as np
import pytest
import torch

from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.precision import Precision
from declip import build_encoder
from declip.distill.student import choose_trainable, frozen_copy, interpolated_state
from declip.distill.task import Distillation, DistillationForm, LossWeights, Teachers
from declip.distill.views import DistillationViews, ViewSizes
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher
from declip.weights.files import read_metadata

TINY_TEACHER = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def foundation():
    torch.manual_seed(1)
    return FoundationTeacher(TINY_TEACHER, "random")


def distillation(foundation, form=DistillationForm.DECOUPLED, context="qk", last_n_blocks=0):
    torch.manual_seed(0)
    student = build_encoder("nano", "random", context=context)
    original = frozen_copy(student)
    choose_trainable(student, form, last_n_blocks)
    return Distillation(student, Teachers(ClipTeacher(original), foundation), form, LossWeights(2.0, 0.5))


@pytest.fixture(scope="module")
def batch():
    views = DistillationViews(ViewSizes(student=64, student_patch=8, teacher_patch=16, crop=128), max_split=2)
    torch.manual_seed(2)
    images = [torch.randint(0, 256, (3, 40 + 8 * index, 64), dtype=torch.uint8) for index in range(2)]
    return [views(image, np.random.default_rng(index)) for index, image in enumerate(images)]


@pytest.mark.parametrize("form", list(DistillationForm))
def test_each_form_has_its_losses_and_trains_all_it_leaves_trainable(form, foundation, batch):
    context = "qk" if form is DistillationForm.DECOUPLED else "maskclip"
    model = distillation(foundation, form, context)
    losses = model(batch)
    assert set(losses) == {"loss_content"} | ({"loss_context"} if form is not DistillationForm.SELF else set())
    sum(losses.values()).backward()
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not untouched


def test_a_teacher_of_autocasts_precision_says_the_same_in_half_the_memory(batch):
    torch.manual_seed(0)
    crops = torch.cat([sample["crops"] for sample in batch]).float()
    encoder = build_encoder("nano", "random")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = ClipTeacher(encoder)(crops)
        teacher = ClipTeacher(encoder, precision=Precision.BF16)
        torch.testing.assert_close(teacher(crops), expected, rtol=0, atol=0)
    kinds = {parameter.dtype for parameter in encoder.image_tower.blocks[0].mlp.parameters()}
    assert kinds == {torch.bfloat16} and encoder.clip.visual.proj.dtype == torch.float32


def test_losses_carry_their_weights(foundation, batch):
    model = distillation(foundation)
    weighted = model(batch)
    model.weights = LossWeights(1.0, 1.0)
    plain = model(batch)
    torch.testing.assert_close(weighted["loss_content"], 2 * plain["loss_content"])
    torch.testing.assert_close(weighted["loss_context"], 0.5 * plain["loss_context"])


def test_images_of_different_shapes_count_alike(foundation, batch):
    assert batch[0]["student"].shape != batch[1]["student"].shape
    model = distillation(foundation)
    together, alone = model([batch[0], batch[1], batch[0]]), [model([sample]) for sample in batch]
    for name, loss in together.items():
        torch.testing.assert_close(loss, (2 * alone[0][name] + alone[1][name]) / 3)


def test_recomputing_blocks_changes_no_gradient(foundation, batch):
    gradients = []
    for recompute in (False, True):
        model = distillation(foundation)
        model.student.recompute = recompute
        sum(model(batch).values()).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)


def test_teachers_neither_train_nor_belong_to_the_model(foundation, batch):
    model = distillation(foundation)
    assert all(name.startswith("student.") for name in model.state_dict())
    before = {name: tensor.clone() for name, tensor in foundation.state_dict().items()}
    sum(model(batch).values()).backward()
    model.train()
    assert not foundation.training and not model.teachers.clip.encoder.training
    assert all(torch.equal(before[name], tensor) for name, tensor in foundation.state_dict().items())
    assert all(p.grad is None for p in model.teachers.clip.parameters())


@pytest.mark.parametrize(
    ("context", "form", "frozen", "trains"),
    [
        ("qk", "decoupled", "resblocks.5.mlp", "resblocks.5.attn.in_proj_weight"),
        ("q", "decoupled", "resblocks.5.ln_2", "resblocks.5.attn.out_proj.weight"),
        ("maskclip", "self", "token_embedding", "resblocks.5.mlp.c_fc.weight"),
    ],
)
def test_what_gets_no_gradient_is_frozen(context, form, frozen, trains):
    student = build_encoder("nano", "random", context=context)
    choose_trainable(student, DistillationForm(form))
    training = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert not [name for name in training if frozen in name or "visual" not in name]
    assert any(trains in name for name in training)


def test_only_the_last_blocks_train_where_asked():
    student = build_encoder("nano", "random", context="qk")
    choose_trainable(student, DistillationForm.DECOUPLED, last_n_blocks=2)
    training = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert {name.split("resblocks.")[1][0] for name in training if "resblocks." in name} == {"4", "5"}
    assert not [name for name in training if "conv1" in name or "positional" in name or "ln_pre" in name]
    with pytest.raises(ConfigError, match="LAST_N_BLOCKS is 9: 'nano' has 6 blocks"):
        choose_trainable(student, DistillationForm.DECOUPLED, last_n_blocks=9)


def test_the_original_keeps_its_image_tower_and_shares_the_text_tower():
    student = build_encoder("nano", "random")
    original = frozen_copy(student)
    before = original.clip.visual.conv1.weight.clone()
    with torch.no_grad():
        student.clip.visual.conv1.weight.zero_()
    assert torch.equal(original.clip.visual.conv1.weight, before)
    assert original.image_tower.visual is original.clip.visual
    assert original.clip.token_embedding.weight is student.clip.token_embedding.weight


def test_interpolation_mixes_student_and_original():
    torch.manual_seed(0)
    student, original = build_encoder("nano", "random"), build_encoder("nano", "random")
    name = "visual.conv1.weight"
    mixed = interpolated_state(student, original, 0.75)[name]
    own, other = student.clip.state_dict()[name], original.clip.state_dict()[name]
    torch.testing.assert_close(mixed, 0.75 * own + 0.25 * other)
    assert torch.equal(interpolated_state(student, original, 1)[name], own)


def test_a_teacher_gives_a_map_of_features_of_any_grid(foundation):
    features = foundation(foundation.normalize(torch.rand(2, 3, 64, 96) * 255))
    assert features.shape == (2, 192, 4, 6) and features.dtype == torch.float32 and not features.requires_grad


def test_a_teacher_loads_a_weight_file_and_refuses_another_models(foundation, tmp_path):
    torch.save(foundation.model.state_dict(), tmp_path / "teacher.pth")
    again = FoundationTeacher(TINY_TEACHER, str(tmp_path / "teacher.pth"))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(image), foundation(image))
    with pytest.raises(CheckpointError, match="is not of teacher 'vit_small_patch16_224'"):
        FoundationTeacher("vit_small_patch16_224", str(tmp_path / "teacher.pth"))
    with pytest.raises(CheckpointError, match="does not exist"):
        FoundationTeacher(TINY_TEACHER, str(tmp_path / "gone.pth"))


@pytest.mark.parametrize(
    ("name", "sentence"), [("dinov9", "teacher 'dinov9' is unknown"), ("resnet18", "no vision tr")]
)
def test_an_impossible_teacher_is_refused(name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FoundationTeacher(name, "random")


def test_saved_weights_of_another_state_keep_their_facts(tmp_path):
    from declip.models.weights import save_encoder

    student = build_encoder("nano", "random", context="q", attention_scale="none")
    state = {name: torch.zeros_like(tensor) for name, tensor in student.clip.state_dict().items()}
    path = save_encoder(student, tmp_path / "declip.safetensors", state, teacher="dinov2_vitb14", iterations=7)
    facts = read_metadata(path)
    assert (facts["context"], facts["attention_scale"], facts["teacher"]) == ("q", "none", "dinov2_vitb14")
    loaded = build_encoder("nano", weights=str(path))
    assert loaded.context.value == "q" and not loaded.clip.visual.conv1.weight.any()
