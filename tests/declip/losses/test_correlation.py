import torch
from torch.autograd import gradcheck

from declip.losses.correlation import correlation_distance
from declip.losses.distances import KLDistance, RowDistances


def test_the_gradient_is_the_slope():
    torch.manual_seed(0)
    student = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(7, 4, dtype=torch.float64)
    assert gradcheck(lambda features: correlation_distance([features], teacher, rows_at_once=3)[0], (student,))


def test_another_distance_takes_the_place_of_l2():
    def half_square(student, teacher):
        difference = student - teacher
        return RowDistances(difference.square().sum() / 2, difference)

    torch.manual_seed(0)
    student = [torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    teacher = torch.randn(7, 4, dtype=torch.float64)
    assert gradcheck(lambda *features: correlation_distance(features, teacher, half_square, 3)[0], student)


def test_attention_logits_take_the_place_of_cosines():
    torch.manual_seed(0)
    student = [torch.randn(7, width, dtype=torch.float64, requires_grad=True) for width in (3, 2)]
    teacher = torch.randn(7, 4, dtype=torch.float64)
    options = {"distance": KLDistance(), "rows_at_once": 3, "logits": True}
    assert gradcheck(lambda *features: correlation_distance(features, teacher, **options)[0], student)


def test_only_the_distance_has_a_gradient():
    student = torch.randn(7, 3, requires_grad=True)
    distance, entropies = correlation_distance([student], torch.randn(7, 4), KLDistance())
    assert distance.requires_grad and not entropies.requires_grad and entropies.shape == (2,)
    assert correlation_distance([student], torch.randn(7, 4))[1].shape == (0,)
