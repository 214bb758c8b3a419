import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from declip.losses import ContextLoss
from declip.models.features import DenseFeatures
from declip.teachers.targets import Affinities, Features


def cosines(features):
    unit = F.normalize(features, dim=-1)
    return unit @ unit.mT


def plain_loss(student, teacher):
    """Eq. 8-9 as written, with every matrix whole: features of the student B×N×D, matrices of the teacher B×N×N."""
    matrices = torch.stack([cosines(features) for features in student]).mean(dim=0)
    return (teacher - matrices).norm(dim=-1).mean()


def tokens(features):
    return rearrange(features, "b c h w -> b (h w) c")


def sample(height, width, num_features=1, batch=2):
    torch.manual_seed(height * width)
    context = tuple(
        torch.randn(batch, height * width, 6, dtype=torch.float64, requires_grad=True) for _ in range(num_features)
    )
    content = torch.randn(batch, 5, height, width, dtype=torch.float64, requires_grad=True)
    return DenseFeatures(content, context, {}), Features(torch.randn(batch, 9, height, width, dtype=torch.float64))


@pytest.mark.parametrize("num_features", [1, 2, 3])
@pytest.mark.parametrize(("size", "rows"), [((3, 4), 512), ((3, 4), 5), ((13, 1), 1), ((3, 4), 4)])
def test_loss_and_gradient_in_blocks_are_those_of_the_plain_form(size, rows, num_features):
    features, target = sample(*size, num_features)
    loss = ContextLoss(rows_at_once=rows)(features, target)
    expected = plain_loss(features.context, cosines(tokens(target.map)))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours = torch.autograd.grad(3 * loss, features.context)
    plain = torch.autograd.grad(3 * expected, features.context)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_the_content_feature_learns_where_asked():
    features, target = sample(3, 4)
    loss = ContextLoss(feature="content")(features, target)
    expected = plain_loss([tokens(features.content)], cosines(tokens(target.map)))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours, plain = (torch.autograd.grad(each, features.content) for each in (loss, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_a_teacher_may_give_affinities_that_come_from_no_features():
    class Whole:
        def __init__(self, matrix):
            self.matrix, self.most = matrix, 0

        def rows(self, block):
            self.most = max(self.most, block.stop - block.start)
            return self.matrix[block]

    features, _ = sample(3, 4)
    matrices = torch.rand(2, 12, 12, dtype=torch.float64)
    before, images = matrices.clone(), [Whole(matrix) for matrix in matrices]
    loss = ContextLoss(rows_at_once=5)(features, Affinities(tuple(images)))
    torch.testing.assert_close(loss, plain_loss(features.context, matrices), rtol=1e-12, atol=0)
    assert torch.equal(matrices, before) and {image.most for image in images} == {5}


def test_a_student_that_correlates_like_its_teacher_has_no_loss_and_a_finite_gradient():
    features, _ = sample(2, 5)
    teacher = rearrange(features.context[0].detach(), "b (h w) d -> b d h w", h=2)
    loss = ContextLoss()(features, Features(teacher))
    (gradient,) = torch.autograd.grad(loss, features.context)
    assert loss < 1e-12 and gradient.shape == features.context[0].shape
    assert gradient.isfinite().all()


def test_under_autocast_the_loss_stays_close_and_in_full_precision():
    features, target = sample(5, 8)
    features = DenseFeatures(features.content, (features.context[0].detach().float(),), {})
    target = Features(target.map.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = ContextLoss()(features, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ContextLoss()(features, target), rtol=1e-2, atol=0)


def test_a_missing_feature_and_another_grid_are_refused():
    features, target = sample(2, 5)
    with pytest.raises(ValueError, match="features have no context"):
        ContextLoss()(DenseFeatures(features.content, (), {}), target)
    with pytest.raises(ValueError, match=r"2 images with 10 tokens, but the target has \(2, 8\)"):
        ContextLoss()(features, Features(target.map[..., :4]))
    with pytest.raises(ValueError, match="2 images with 10 tokens, but the target has 1"):
        ContextLoss()(features, Affinities((None,)))
