"""From features of regions to accuracies.

Shape legend
    C  width of the shared image-text space       T  classes        M  regions
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2host.engine.tensors import check_finite


@dataclass(frozen=True)
class RegionAccuracy:
    """How often the right class is among the best k, per class.

    Attributes:
        top1, top5: T, percent; NaN for classes that do not occur.
        counts: T, regions.
        is_thing: T bool.
    """

    top1: Tensor
    top5: Tensor
    counts: Tensor
    is_thing: Tensor

    @classmethod
    def of(cls, ranks: Tensor, labels: Tensor, is_thing: Iterable[bool]) -> "RegionAccuracy":
        """From :func:`class_ranks` and class indices of all regions."""
        things = torch.tensor(list(is_thing))
        counts = torch.bincount(labels, minlength=len(things))
        shares = [
            100 * torch.bincount(labels, weights=(ranks < k).double(), minlength=len(things)) / counts for k in (1, 5)
        ]
        return cls(*shares, counts, things)

    def summary(self) -> dict[str, float]:
        """Means over classes in percent: ``things_mAcc``, ``stuff_mAcc``, ``things_mAcc5``, ``stuff_mAcc5``."""
        groups = {"things": self.is_thing, "stuff": ~self.is_thing}
        tops = {"mAcc": self.top1, "mAcc5": self.top5}
        return {f"{name}_{top}": _mean(values[group]) for top, values in tops.items() for name, group in groups.items()}


def class_scores(features: Tensor, batch: Sequence[dict], text: Tensor) -> list[Tensor]:
    """The cosines of the regions of each image of a batch with all classes: K×T each.

    Args:
        features: M×C, of all regions of the batch.
        batch: its images, with ``labels`` and ``file_name``.
        text: T×C class embeddings.

    Raises:
        CheckpointError: a region's feature has no direction.
    """
    with torch.autocast(text.device.type, enabled=False):
        scores = features.float() / features.float().norm(dim=1, keepdim=True) @ text.T
    by_image = scores.split([len(sample["labels"]) for sample in batch])
    for sample, each in zip(batch, by_image, strict=True):
        check_finite(each[:, 0], f"the features of regions of {sample['file_name']}")
    return list(by_image)


def class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many other classes match each region at least as well as its own: M int64, on the CPU.

    A tie is no hit: what cannot tell classes apart has not named one.

    >>> class_ranks(torch.tensor([[0.9, 0.1, 0.5], [0.4, 0.4, 0.1]]), torch.tensor([0, 1]))
    tensor([0, 1])

    Args:
        scores: M×T, see :func:`class_scores`.
        labels: M class indices.
    """
    own = scores.gather(1, labels[:, None].to(scores.device))
    return ((scores >= own).sum(dim=1) - 1).cpu()


def _mean(values: Tensor) -> float:
    """The mean of what occurs; NaN where nothing does."""
    occurring = values[~values.isnan()]
    return occurring.mean().item() if len(occurring) else math.nan
