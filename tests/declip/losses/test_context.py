import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from declip.losses import ContextLoss, Direction, KLDistance
from declip.models.features import DenseFeatures
from declip.teachers.targets import Affinities, Features


def cosines(features):
    unit = F.normalize(features, dim=-1)
    return unit @ unit.mT


def plain_loss(student, teacher):
    """Eq. 8-9 as written, with every matrix whole: features of the student B×N×D, matrices of the teacher B×N×N."""
    matrices = torch.stack([cosines(features) for features in student]).mean(dim=0)
    return (teacher - matrices).norm(dim=-1).mean()


def plain_divergence(student, teacher, direction, logits=False):
    """KL as written, with every matrix whole, at temperature 0.1; of the student's attention logits at 1."""
    matrices = [x @ x.mT / x.shape[-1] ** 0.5 if logits else cosines(x) / 0.1 for x in student]
    q, p = torch.stack(matrices).mean(dim=0).softmax(dim=-1), (teacher / 0.1).softmax(dim=-1)
    first, second = (p, q) if direction is Direction.TEACHER else (q, p)
    return (first * (first.log() - second.log())).sum(dim=-1).mean()


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
    loss = ContextLoss(rows_at_once=rows)(features, target).value
    expected = plain_loss(features.context, cosines(tokens(target.map)))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours = torch.autograd.grad(3 * loss, features.context)
    plain = torch.autograd.grad(3 * expected, features.context)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


def test_the_content_feature_learns_where_asked():
    features, target = sample(3, 4)
    loss = ContextLoss(feature="content")(features, target).value
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
    loss = ContextLoss(rows_at_once=5)(features, Affinities(tuple(images))).value
    torch.testing.assert_close(loss, plain_loss(features.context, matrices), rtol=1e-12, atol=0)
    assert torch.equal(matrices, before) and {image.most for image in images} == {5}


def test_a_student_that_correlates_like_its_teacher_has_no_loss_and_a_finite_gradient():
    features, _ = sample(2, 5)
    teacher = rearrange(features.context[0].detach(), "b (h w) d -> b d h w", h=2)
    loss = ContextLoss()(features, Features(teacher)).value
    (gradient,) = torch.autograd.grad(loss, features.context)
    assert loss < 1e-12 and gradient.shape == features.context[0].shape
    assert gradient.isfinite().all()


def test_under_autocast_the_loss_stays_close_and_in_full_precision():
    features, target = sample(5, 8)
    features = DenseFeatures(features.content, (features.context[0].detach().float(),), {})
    target = Features(target.map.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = ContextLoss()(features, target).value
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ContextLoss()(features, target).value, rtol=1e-2, atol=0)


def test_a_missing_feature_and_another_grid_are_refused():
    features, target = sample(2, 5)
    with pytest.raises(ValueError, match="features have no context"):
        ContextLoss()(DenseFeatures(features.content, (), {}), target)
    with pytest.raises(ValueError, match=r"2 images with 10 tokens, but the target has \(2, 8\)"):
        ContextLoss()(features, Features(target.map[..., :4]))
    with pytest.raises(ValueError, match="2 images with 10 tokens, but the target has 1"):
        ContextLoss()(features, Affinities((None,)))


@pytest.mark.parametrize("logits", [False, True], ids=["cosine", "attention"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("num_features", [1, 2])
@pytest.mark.parametrize("rows", [512, 5])
def test_divergence_and_gradient_in_blocks_are_those_of_the_plain_form(rows, num_features, direction, logits):
    features, target = sample(3, 4, num_features)
    distance = KLDistance(0.1, 1.0 if logits else None, direction)
    loss = ContextLoss(distance=distance, rows_at_once=rows, logits=logits)(features, target)
    expected = plain_divergence(features.context, cosines(tokens(target.map)), direction, logits)
    torch.testing.assert_close(loss.value, expected, rtol=1e-12, atol=0)
    ours, plain = (torch.autograd.grad(3 * each, features.context) for each in (loss.value, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("direction", Direction)
def test_the_divergence_of_equal_affinities_is_zero_and_of_others_positive(direction):
    features, target = sample(2, 5)
    teacher = rearrange(features.context[0].detach(), "b (h w) d -> b d h w", h=2)
    loss = ContextLoss(distance=KLDistance(direction=direction))
    assert abs(loss(features, Features(teacher)).value) < 1e-12 < 1e-3 < loss(features, target).value
    (gradient,) = torch.autograd.grad(loss(features, Features(teacher)).value, features.context)
    assert gradient.abs().max() < 1e-12


def test_the_entropies_of_rows_are_measured_as_shares_of_the_uniform_ones():
    class Whole:
        def __init__(self, matrix):
            self.rows = matrix.__getitem__

    features, _ = sample(3, 4)
    sure, unsure = 50 * torch.eye(12, dtype=torch.float64), torch.zeros(12, 12, dtype=torch.float64)
    loss = ContextLoss(distance=KLDistance(), rows_at_once=5)
    measures = loss(features, Affinities((Whole(sure), Whole(unsure)))).measures
    torch.testing.assert_close(measures["entropy_teacher"].item(), 0.5)  # none of one image, all of the other
    q = (cosines(features.context[0]) / 0.1).softmax(dim=-1)
    expected = -(q * q.log()).sum(dim=-1).mean().item() / torch.tensor(12.0).double().log().item()
    assert measures["entropy_student"].item() == pytest.approx(expected)
    assert not any(value.requires_grad for value in measures.values())
    assert not ContextLoss()(features, Affinities((Whole(sure), Whole(unsure)))).measures


@pytest.mark.slow
@pytest.mark.parametrize("distance", [KLDistance(), KLDistance(direction=Direction.STUDENT)])
def test_4096_tokens_fit(distance):
    torch.manual_seed(0)
    context = torch.randn(1, 4096, 64, requires_grad=True)
    features = DenseFeatures(None, (context,), {})
    loss = ContextLoss(distance=distance)(features, Features(torch.randn(1, 32, 64, 64))).value
    loss.backward()
    assert loss.isfinite() and context.grad.isfinite().all()
