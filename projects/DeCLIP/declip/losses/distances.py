"""Distances between rows of two matrices of relations, with their slopes.

Shape legend
    b  rows of a block, N long
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class RowDistances(NamedTuple):
    """What a block of rows is apart.

    Attributes:
        total: the sum of their distances, a scalar.
        slope: its derivative b×N by the student's rows.
        entropies: of the rows as distributions, student and teacher, summed over rows, in nats; None: they are none.
    """

    total: Tensor
    slope: Tensor
    entropies: Tensor | None = None


RowDistance = Callable[[Tensor, Tensor], RowDistances]
"""From rows b×N of the student, which may be reused, and of the teacher."""


def l2_distance(student: Tensor, teacher: Tensor) -> RowDistances:
    """``sum_i || S_i - T_i ||_2`` over rows i (DeCLIP, Eq. 8).

    >>> l2_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))[:2]
    (tensor(5.), tensor([[ 0.6000, -0.8000]]))
    """
    difference = student.sub_(teacher)
    norms = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
    return RowDistances(norms.sum(), difference.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny)))


class Direction(str, Enum):
    """Which distribution the divergence is an expectation under."""

    TEACHER = "teacher"  # KL(P || Q): the student has to cover what the teacher relates
    STUDENT = "student"  # KL(Q || P): it may leave out, and not add


@dataclass(frozen=True)
class KLDistance:
    """``sum_i KL(P_i || Q_i)`` over rows i, with P_i = softmax(T_i / t) and Q_i = softmax(S_i / s).

    Cosines differ by 2 at most: at t = 1 rows of a thousand are nearly uniform, and all are alike.

    Args:
        temperature: t of the teacher's rows.
        student_temperature: s of the student's; None: t.
        direction: KL(P_i || Q_i), or KL(Q_i || P_i).

    Source: generalized DeCLIP (arXiv 2508.11256) teaches context by the KL divergence between affinity rows;
    temperature and direction are ours.

    >>> rows = torch.tensor([[1.0, 0.5, -0.2]])
    >>> distance = KLDistance()
    >>> distance(rows, rows).total, bool(distance(rows, rows.flip(1)).total > 0)
    (tensor(0.), True)
    """

    temperature: float = 0.1
    student_temperature: float | None = None
    direction: Direction = Direction.TEACHER

    def __call__(self, student: Tensor, teacher: Tensor) -> RowDistances:
        """The distances of rows b×N, which stay as they are; gradients go through the total, too."""
        own = self.student_temperature or self.temperature
        log_q = F.log_softmax(student / own, dim=1)
        log_p = F.log_softmax(teacher.to(student.dtype) / self.temperature, dim=1)
        q, p = log_q.exp(), log_p.exp()
        entropies = -torch.stack([torch.sum(q * log_q), torch.sum(p * log_p)])
        if self.direction is Direction.TEACHER:
            return RowDistances(torch.sum(p * (log_p - log_q)), (q - p) / own, entropies)
        surprise = log_q - log_p
        divergences = torch.sum(q * surprise, dim=1, keepdim=True)
        return RowDistances(divergences.sum(), q * (surprise - divergences) / own, entropies)
