"""Which images go through a model together."""

from collections.abc import Iterable

from torch import Tensor


def group_by_shape(tensors: Iterable[Tensor]) -> list[list[int]]:
    """The positions of tensors that can be stacked, group by group in the order of their first members.

    >>> import torch
    >>> group_by_shape([torch.zeros(3, 8, 8), torch.zeros(3, 8, 16), torch.zeros(3, 8, 8)])
    [[0, 2], [1]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault(tuple(tensor.shape), []).append(index)
    return list(groups.values())
