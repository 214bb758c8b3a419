import torch

from d2host.engine.precision import Precision
from declip import build_encoder
from declip.teachers.base import Views
from declip.teachers.clip import ClipTeacher

CROPS = torch.randint(0, 256, (3, 3, 128, 128), generator=torch.Generator().manual_seed(0)).float()


def test_it_gives_class_tokens_of_crops_with_their_boxes():
    teacher = ClipTeacher(build_encoder("nano", "nano-clip"), crops_at_once=2)
    boxes = (torch.rand(1, 4), torch.rand(2, 4))
    target = teacher.teach(Views(student=torch.zeros(2, 3, 8, 8), crops=CROPS, boxes=boxes))
    expected = teacher.encoder.encode_image(teacher.encoder.normalize(CROPS))
    torch.testing.assert_close(target.embeddings, expected, rtol=1e-4, atol=1e-5)
    assert target.boxes is boxes and not target.embeddings.requires_grad


def test_in_autocasts_precision_it_says_the_same_in_half_the_memory():
    encoder = build_encoder("nano", "nano-clip")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = ClipTeacher(encoder)(CROPS)
        teacher = ClipTeacher(encoder, precision=Precision.BF16)
        torch.testing.assert_close(teacher(CROPS), expected, rtol=0, atol=0)
    kinds = {parameter.dtype for parameter in encoder.image_tower.blocks[0].mlp.parameters()}
    assert kinds == {torch.bfloat16} and encoder.clip.visual.proj.dtype == torch.float32


def test_it_never_trains():
    teacher = ClipTeacher(build_encoder("nano", "nano-clip")).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
