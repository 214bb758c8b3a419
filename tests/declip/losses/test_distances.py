import pytest
import torch

from declip.losses import Direction, KLDistance, l2_distance


def test_the_slope_of_equal_rows_is_zero():
    rows = torch.randn(2, 5)
    total, slope, entropies = l2_distance(rows.clone(), rows)
    assert total == 0 and not slope.any() and entropies is None


@pytest.mark.parametrize("direction", Direction)
def test_the_slope_is_the_gradient(direction):
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 6, dtype=torch.float64, requires_grad=True), torch.randn(3, 6).double()
    distances = KLDistance(0.2, 0.7, direction)(student, teacher)
    (gradient,) = torch.autograd.grad(distances.total, student)
    torch.testing.assert_close(distances.slope, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 100.0])
def test_extreme_affinities_give_finite_numbers(direction, temperature):
    student = torch.tensor([[1.0, -1.0, 0.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    for teacher in (-student, student, student.bfloat16()):
        distances = KLDistance(temperature, direction=direction)(student, teacher)
        assert distances.total.isfinite() and distances.slope.isfinite().all() and distances.entropies.isfinite().all()
        assert distances.total >= -1e-6


def test_directions_differ_in_what_they_punish():
    """A student that leaves out one of two tokens, and one that adds one."""
    both, one = torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, -1.0, -1.0]])
    cover, exclude = (KLDistance(direction=direction) for direction in (Direction.TEACHER, Direction.STUDENT))
    assert cover(one, both).total > 5 * exclude(one, both).total
    assert exclude(both, one).total > 5 * cover(both, one).total
