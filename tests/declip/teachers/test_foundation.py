import pytest
import torch

from d2host.engine.errors import CheckpointError, ConfigError
from declip.teachers.base import Views
from declip.teachers.foundation import FoundationTeacher

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
