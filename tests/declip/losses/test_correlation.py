import torch
from torch.autograd import gradcheck

from declip.losses.correlation import correlation_distance, l2_distance


def test_the_gradient_is_the_slope():
    torch.manual_seed(0)
    student = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(7, 4, dtype=torch.float64)
    assert gradcheck(lambda features: correlation_distance([features], teacher, rows_at_once=3), (student,))


def test_another_distance_takes_the_place_of_l2():
    def half_square(student, teacher):
        difference = student - teacher
        return difference.square().sum() / 2, difference

    torch.manual_seed(0)
    student = [torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    teacher = torch.randn(7, 4, dtype=torch.float64)
    assert gradcheck(lambda *features: correlation_distance(features, teacher, half_square, 3), student)


def test_the_slope_of_equal_rows_is_zero():
    rows = torch.randn(2, 5)
    total, slope = l2_distance(rows.clone(), rows)
    assert total == 0 and not slope.any()
