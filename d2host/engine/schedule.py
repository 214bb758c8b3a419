"""Learning-rate schedule."""

import math

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

    def factor(iteration: int) -> float:
        if iteration < warmup_iters:
            alpha = iteration / warmup_iters
            return warmup_factor * (1 - alpha) + cosine(warmup_iters) * alpha
        return cosine(iteration)

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return LambdaLR(optimizer, factor, last_epoch=start_iter - 1)
