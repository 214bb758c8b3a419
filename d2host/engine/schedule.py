"""Learning-rate schedule."""

import math
from bisect import bisect
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, max_iter: int, warmup_iters: int = 0, warmup_factor: float = 0.0, start_iter: int = 0
) -> LambdaLR:
    """Linear warm-up from ``warmup_factor``, then half a cosine to zero at ``max_iter``; from ``start_iter`` on.

    The factor on every group's learning rate at iteration i is the cosine's ``(1 + cos(pi i / max_iter)) / 2``; during
    the first ``warmup_iters`` it rises linearly from ``warmup_factor`` to meet the cosine.
    """

    def cosine(iteration: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(iteration / max_iter, 1.0)))

    return _scheduled(optimizer, cosine, warmup_iters, warmup_factor, start_iter)


def warmup_multistep(
    optimizer: Optimizer,
    steps: Sequence[int],
    gamma: float,
    warmup_iters: int = 0,
    warmup_factor: float = 0.0,
    start_iter: int = 0,
) -> LambdaLR:
    """Linear warm-up from ``warmup_factor`` to 1, then a factor ``gamma`` for every one of ``steps`` that is past.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    >>> schedule = warmup_multistep(optimizer, steps=[2], gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5]
    """

    def stairs(iteration: int) -> float:
        return gamma ** bisect(steps, iteration)

    return _scheduled(optimizer, stairs, warmup_iters, warmup_factor, start_iter)


def _scheduled(
    optimizer: Optimizer,
    course: Callable[[int], float],
    warmup_iters: int,
    warmup_factor: float,
    start_iter: int,
) -> LambdaLR:
    """A course of the factor on the learning rate, which a linear warm-up meets."""

    def factor(iteration: int) -> float:
        if iteration < warmup_iters:
            alpha = iteration / warmup_iters
            return warmup_factor * (1 - alpha) + course(warmup_iters) * alpha
        return course(iteration)

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return LambdaLR(optimizer, factor, last_epoch=start_iter - 1)
