import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from declip.losses import Direction, KLDistance, RegionCorrelationLoss
from declip.models.features import DenseFeatures
from declip.teachers.targets import CropEmbeddings, Features, Regions

HALVES = torch.tensor([[0.0, 0.0, 48.0, 64.0], [48.0, 0.0, 96.0, 64.0]])
QUARTERS = torch.tensor([[0.0, 0, 48, 32], [48, 0, 96, 32], [0, 32, 48, 64], [48, 32, 96, 64]])
WHOLE = torch.tensor([[0.0, 0.0, 96.0, 64.0]])


def maps(images=2):
    torch.manual_seed(images)
    content = torch.randn(images, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    return content, torch.randn(images, 7, 4, 6, dtype=torch.float64)


def loss_of(content, teacher, boxes, **options):
    features = DenseFeatures(content, (), {})
    return RegionCorrelationLoss(16, **options)(features, Features(teacher), Regions(tuple(boxes)))


def divergence(student, teacher):
    q, p = ((F.normalize(x, dim=-1) @ F.normalize(x, dim=-1).mT / 0.1).softmax(dim=-1) for x in (student, teacher))
    return (p * (p / q).log()).sum(dim=-1).mean()


def pooled(features, boxes, points):
    return roi_align(features[None], [boxes.double()], points, spatial_scale=1 / 16, aligned=True)


def test_it_is_the_divergence_between_correlations_of_regions():
    content, teacher = maps()
    boxes = [HALVES, QUARTERS]
    pairs = [[pooled(each[index], own, 1).flatten(1) for each in (content, teacher)] for index, own in enumerate(boxes)]
    expected = (divergence(*pairs[0]) + divergence(*pairs[1])) / 2
    loss = loss_of(content, teacher, boxes)
    torch.testing.assert_close(loss.value, expected, rtol=1e-12, atol=0)
    ours, plain = (torch.autograd.grad(each, content)[0] for each in (loss.value, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)
    assert ours.any()


def test_with_points_it_is_the_divergence_within_each_region():
    content, teacher = maps(1)
    pairs = [pooled(each[0], QUARTERS, 3).flatten(2).mT for each in (content, teacher)]
    expected = torch.stack([divergence(own, other) for own, other in zip(*pairs, strict=True)]).mean()
    torch.testing.assert_close(loss_of(content, teacher, [QUARTERS], points=3).value, expected, rtol=1e-12, atol=0)


def test_an_image_of_one_region_contributes_nothing():
    content, teacher = maps()
    both = loss_of(content, teacher, [QUARTERS, WHOLE]).value
    torch.testing.assert_close(both, loss_of(content[:1], teacher[:1], [QUARTERS]).value / 2)
    alone = loss_of(content, teacher, [WHOLE, WHOLE])
    (gradient,) = torch.autograd.grad(alone.value, content)
    assert alone.value == 0 and not gradient.any()


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("direction", Direction)
def test_equal_maps_have_no_loss_and_others_some(points, direction):
    content, teacher = maps()
    options = {"points": points, "distance": KLDistance(direction=direction)}
    assert abs(loss_of(content, content.detach(), [HALVES, QUARTERS], **options).value) < 1e-12
    assert loss_of(content, teacher, [HALVES, QUARTERS], **options).value > 1e-3


def test_entropies_are_measured_as_shares_and_without_gradient():
    content, teacher = maps()
    measures = loss_of(content, torch.ones_like(teacher), [HALVES, QUARTERS]).measures
    assert measures["entropy_teacher"] == pytest.approx(1.0)  # regions that are all alike
    assert 0 < measures["entropy_student"] < 1 and not measures["entropy_student"].requires_grad


def test_maps_of_half_precision_and_crops_serve_as_well():
    content, teacher = maps()
    crops = CropEmbeddings((HALVES, QUARTERS), torch.zeros(6, 5))
    loss = RegionCorrelationLoss(16)(DenseFeatures(content.detach().bfloat16(), (), {}), Features(teacher), crops)
    torch.testing.assert_close(loss.value.double(), loss_of(content, teacher, crops.boxes).value, rtol=0.1, atol=0)


def test_boxes_of_other_images_are_refused():
    content, teacher = maps()
    with pytest.raises(ValueError, match="features of 2 images and of 2, boxes of 1"):
        loss_of(content, teacher, [HALVES])
