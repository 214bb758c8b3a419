import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from declip.losses.correlation import correlation_distance
from declip.losses.terms import content_loss, context_loss


def plain_context_loss(context, teacher, valid):
    """Eq. 8-9 as written, image by image, with every matrix whole."""
    distances = []
    for index, keep in enumerate(valid):
        cosines = lambda features: F.normalize(features, dim=-1) @ F.normalize(features, dim=-1).T  # noqa: E731
        student = torch.stack([cosines(features[index][keep]) for features in context]).mean(dim=0)
        distances.append((cosines(teacher[index][keep]) - student).norm(p=2, dim=-1).mean())
    return torch.stack(distances).mean()


def sample(count, num_features=1, batch=2):
    torch.manual_seed(count)
    context = [torch.randn(batch, count, 6, dtype=torch.float64, requires_grad=True) for _ in range(num_features)]
    teacher = torch.randn(batch, count, 9, dtype=torch.float64)
    valid = torch.rand(batch, count) < 0.7
    valid[:, 0] = True
    return context, teacher, valid


@pytest.mark.parametrize("num_features", [1, 2, 3])
@pytest.mark.parametrize(("count", "rows"), [(12, 512), (12, 5), (13, 1), (12, 4)])
def test_blocked_context_loss_and_its_gradient_are_those_of_the_plain_form(count, rows, num_features):
    context, teacher, valid = sample(count, num_features)
    loss = context_loss(context, teacher, valid, rows_at_once=rows)
    expected = plain_context_loss(context, teacher, valid)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours = torch.autograd.grad(3 * loss, context)
    plain = torch.autograd.grad(3 * expected, context)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_the_correlation_distance_is_its_slope():
    torch.manual_seed(0)
    student = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(7, 4, dtype=torch.float64)
    assert gradcheck(lambda features: correlation_distance([features], teacher, 3), (student,))


def test_without_a_mask_every_token_counts():
    context, teacher, _ = sample(10)
    everything = torch.ones(2, 10, dtype=torch.bool)
    torch.testing.assert_close(context_loss(context, teacher), plain_context_loss(context, teacher, everything))


def test_padding_changes_nothing():
    context, teacher, _ = sample(10)
    valid = torch.zeros(2, 14, dtype=torch.bool)
    valid[:, :10] = True
    pad = lambda features: F.pad(features, (0, 0, 0, 4), value=5.0)  # noqa: E731
    padded = context_loss([pad(features) for features in context], pad(teacher), valid)
    torch.testing.assert_close(padded, context_loss(context, teacher))


def test_a_student_that_correlates_like_its_teacher_has_no_loss_and_a_finite_gradient():
    context, _, _ = sample(10)
    loss = context_loss(context, context[0].detach())
    (gradient,) = torch.autograd.grad(loss, context)
    assert loss < 1e-12 and gradient.shape == context[0].shape
    assert gradient.isfinite().all()


def test_under_autocast_the_loss_stays_close_and_in_full_precision():
    context, teacher, valid = sample(40)
    context, teacher = [context[0].detach().float()], teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = context_loss(context, teacher, valid)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, context_loss(context, teacher, valid), rtol=1e-2, atol=0)


def test_context_loss_refuses_other_grids_and_images_without_tokens():
    context, teacher, valid = sample(10)
    with pytest.raises(ValueError, match="student tokens"):
        context_loss(context, teacher[:, :8], valid[:, :8])
    with pytest.raises(ValueError, match="a valid token in every image"):
        context_loss(context, teacher, torch.zeros_like(valid))


def test_content_loss_is_the_cosine_distance_of_regions_and_crops():
    features = torch.randn(2, 5, dtype=torch.float64)
    content = features[:, :, None, None].expand(-1, -1, 4, 6)  # each image the same everywhere
    boxes = [torch.tensor([[0.0, 0.0, 96.0, 64.0]]), torch.tensor([[0.0, 0.0, 48.0, 32.0], [48.0, 32.0, 96.0, 64.0]])]
    crops = torch.randn(3, 5, dtype=torch.float64)
    cosines = F.cosine_similarity(features[[0, 1, 1]], crops)
    expected = 1 - (cosines[0] + (cosines[1] + cosines[2]) / 2) / 2
    torch.testing.assert_close(content_loss(content, boxes, crops, patch_size=16), expected)


def test_a_box_takes_the_features_it_encloses():
    content = torch.zeros(1, 2, 4, 8, dtype=torch.float64)
    content[:, 0, :, :4], content[:, 1, :, 4:] = 1, 1
    boxes = [torch.tensor([[0.0, 0.0, 48.0, 64.0], [80.0, 0.0, 128.0, 64.0]])]
    left, right = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    same = content_loss(content, boxes, torch.stack([left, right]).double(), patch_size=16)
    swapped = content_loss(content, boxes, torch.stack([right, left]).double(), patch_size=16)
    torch.testing.assert_close(torch.stack([same, swapped]), torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_content_loss_wants_as_many_boxes_as_crops():
    with pytest.raises(ValueError, match=r"\[1\] boxes for 2 crops"):
        content_loss(torch.randn(1, 5, 2, 2), [torch.zeros(1, 4)], torch.randn(2, 5), 16)
