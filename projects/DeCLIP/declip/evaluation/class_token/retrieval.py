"""Retrieval among embeddings: is what belongs to a query among the first?

Shape legend
    Q  queries        N  candidates        C  width of the shared image-text space
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def retrieval_recall(
    queries: Tensor, candidates: Tensor, relevant: Sequence[Sequence[int]], at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The percent of queries that find one of theirs among the first candidates; a tie with another is not before it.

    >>> texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> retrieval_recall(torch.tensor([[2.0, 1.0], [3.0, 1.0]]), texts, [[0], [1]], at=(1, 2))
    {'R@1': 50.0, 'R@2': 100.0}

    Args:
        queries: Q×C, of any length.
        candidates: N×C, of unit length.
        relevant: indices of candidates, at least one per query.
    """
    ranks = []
    for first in range(0, len(queries), 256):
        scores = queries[first : first + 256] @ candidates.T
        for row, own in zip(scores, relevant[first : first + 256], strict=True):
            own = torch.as_tensor(own, device=row.device)
            best = row[own].max()
            row[own] = -torch.inf
            ranks.append((row >= best).sum())
    ranks = torch.stack(ranks)
    return {f"R@{k}": 100 * (ranks < k).double().mean().item() for k in at}
