"""Distillation samples: the views of one image, addressed by (epoch, index) and the same in every run and worker."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from d2host.engine.errors import DataError
from declip.data.batching import group_by_shape
from declip.data.image_sources import ImageRecord
from declip.distill.views import DistillationViews
from declip.teachers.base import Views

DRAFT = 2  # images are decoded at no less than this many times the student's side
UNREADABLE_LIMIT = 0.01  # share of unreadable images that is taken for a broken source
ATTEMPTS = 16  # unreadable images in a row before giving up


class DistillationDataset(Dataset):
    """Views of the images of a source.

    An unreadable image is replaced by the next readable one and named under ``unreadable``.

    Args:
        records: the images.
        views: makes the views of one.
        seed: of the crop grids.
    """

    def __init__(self, records: Sequence[ImageRecord], views: DistillationViews, seed: int) -> None:
        self.records, self.views, self.seed = records, views, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, address: tuple[int, int]) -> dict:
        """The views of :class:`DistillationViews`, ``file_name`` and ``unreadable`` (messages by file name).

        Raises:
            DataError: a whole run of images is unreadable.
        """
        epoch, index = address
        rng = np.random.default_rng((self.seed, epoch, index))
        unreadable: dict[str, str] = {}
        for attempt in range(min(ATTEMPTS, len(self.records))):
            record = self.records[(index + attempt) % len(self.records)]
            try:
                image = record.read(DRAFT * self.views.sizes.student)
            except DataError as error:
                unreadable[record.name] = str(error)
                continue
            return {**self.views(image, rng), "file_name": record.name, "unreadable": unreadable}
        raise DataError(f"{len(unreadable)} images in a row cannot be read, the last: {list(unreadable.values())[-1]}")


class UnreadableImages:
    """Counts the images that were skipped.

    Args:
        total: images in the source.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.messages: dict[str, str] = {}

    def add(self, batch: Sequence[dict]) -> None:
        """Take note of what a batch skipped.

        Raises:
            DataError: more than 1 % of the source is unreadable.
        """
        for sample in batch:
            self.messages.update(sample["unreadable"])
        if len(self.messages) > UNREADABLE_LIMIT * self.total:
            raise DataError(
                f"{len(self.messages)} of {self.total} images cannot be read, more than {UNREADABLE_LIMIT:.0%}: repair "
                f"the source; the first: {next(iter(self.messages.values()))}"
            )


def views_by_grid(batch: Sequence[dict], device: torch.device) -> Iterator[Views]:
    """The views of a batch, images that share a grid together, as floats on a device."""
    for members in group_by_shape(sample["student"] for sample in batch):
        group = [batch[index] for index in members]
        stacked = {
            key: torch.stack([sample[key] for sample in group])
            for key in ("student", "foundation", "diffusion")
            if key in group[0]
        }
        if "crops" in group[0]:
            stacked["crops"] = torch.cat([sample["crops"] for sample in group])
        moved = {key: view.to(device, non_blocking=True).float() for key, view in stacked.items()}
        listed = {
            name: tuple(sample[key] for sample in group if key in sample)
            for name, key in {"boxes": "boxes", "digests": "digest"}.items()
        }
        yield Views(**moved, **listed)
