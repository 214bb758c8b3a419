import pytest
import timm
import torch

from d2host.engine.errors import CheckpointError, ConfigError
from declip.teachers.base import Views
from declip.teachers.foundation import TEACHERS, FoundationTeacher

TINY_TEACHER = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def foundation():
    torch.manual_seed(1)
    return FoundationTeacher(TINY_TEACHER, "random")


def test_it_gives_a_map_of_features_of_any_grid(foundation):
    features = foundation(foundation.normalize(torch.rand(2, 3, 64, 96) * 255))
    assert features.shape == (2, 192, 4, 6) and features.dtype == torch.float32 and not features.requires_grad


def test_a_patch_stands_where_it_is_in_the_image(foundation):
    image = torch.zeros(1, 3, 64, 96)
    other = image.clone()
    other[..., 16:32, 80:96] = 200  # row 1, column 5
    changed = (foundation(other) - foundation(image)).norm(dim=1)[0]
    assert changed.flatten().argmax() == 1 * 6 + 5


def test_it_teaches_features_of_its_own_view(foundation):
    image = torch.rand(1, 3, 32, 48) * 255
    target = foundation.teach(Views(student=torch.zeros(1, 3, 8, 8), foundation=image))
    assert torch.equal(target.map, foundation(foundation.normalize(image)))


def test_it_never_trains(foundation):
    foundation.train()
    assert not any(module.training for module in foundation.modules())
    assert not any(parameter.requires_grad for parameter in foundation.parameters())


def test_a_weight_file_is_loaded_and_another_models_refused(foundation, tmp_path):
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


@pytest.mark.parametrize("name", [TINY_TEACHER, "vit_tiny_patch16_dinov3_qkvb", "nano-vfm"])
@pytest.mark.parametrize("layer", [0, 4, -2, -1])
def test_the_layer_is_the_normed_output_of_that_block(name, layer):
    if name != "nano-vfm" and not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    torch.manual_seed(0)
    whole = FoundationTeacher(name, "random")
    torch.manual_seed(0)
    teacher = FoundationTeacher(name, "random", layer=layer)
    blocks = len(whole.model.blocks)
    assert len(teacher.model.blocks) == range(blocks)[layer] + 1
    image = torch.randn(1, 3, 4 * teacher.patch_size, 6 * teacher.patch_size)
    options = {"indices": [range(blocks)[layer]], "norm": True, "intermediates_only": True}
    with torch.no_grad():
        torch.testing.assert_close(teacher(image), whole.model.forward_intermediates(image, **options)[0])


@pytest.mark.parametrize("layer", [6, -7, 99])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(ConfigError, match=rf"'nano-vfm' has no layer {layer}: choose one of its 6 blocks, 0 to 5"):
        FoundationTeacher("nano-vfm", "random", layer=layer)


def test_a_layer_before_the_neck_is_refused(monkeypatch):
    small = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64, "global_attn_indexes": (1,), "neck_chans": 8}
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: create(*a, **k, **small))
    assert FoundationTeacher("sam_vitb", "random")(torch.zeros(1, 3, 64, 64)).shape == (1, 8, 4, 4)
    with pytest.raises(ConfigError, match="'sam_vitb' has a neck behind its blocks"):
        FoundationTeacher("sam_vitb", "random", layer=0)


def test_names_are_models_of_timm():
    for name, model in TEACHERS.items():
        assert timm.is_model(model.split(".")[0]) or "dinov3" in name
        assert not timm.is_model(model.split(".")[0]) or model in timm.list_pretrained()


def test_a_teacher_that_timm_does_not_have_yet_is_refused(monkeypatch):
    monkeypatch.setattr(timm, "is_model", lambda name: False)
    with pytest.raises(ConfigError, match=r"'dinov3_vitb16' needs a newer timm"):
        FoundationTeacher("dinov3_vitb16", "random")
