"""Distillation samples: the views of one image, the same in every run and worker.

Images of a list are addressed by (epoch, index), those of shards by a lane and its place (:mod:`d2host.engine.lanes`).
"""

import io
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch.utils.data import Dataset

from d2host.engine.errors import DataError
from d2host.engine.lanes import Place
from d2host.engine.sampler import shuffled
from declip.data.batching import group_by_shape
from declip.data.image_list import ImageRecord
from declip.data.reading import read_image
from declip.data.shards import read_shard
from declip.distill.views import DistillationViews
from declip.teachers.base import Views

DRAFT = 2  # images are decoded at no less than this many times the student's side
UNREADABLE_LIMIT = 0.01  # share of unreadable images that is taken for a broken source
FIRST = 1000  # images, of which a share is taken where their number is not known
ATTEMPTS = 16  # unreadable images in a row before giving up
EMPTY = 16  # times that a lane passes shards without images before giving up


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
                unreadable[record.path] = str(error)
                continue
            return {**self.views(image, rng, record.path), "file_name": record.path, "unreadable": unreadable}
        raise DataError(f"{len(unreadable)} images in a row cannot be read, the last: {list(unreadable.values())[-1]}")


class ShardedViews:
    """Views of the images in shards, which are read one after the other by as many lanes as a batch has images.

    In every epoch shards come in an order drawn from the seed, and go round the lanes; the images of one come as they
    are stored. Where there are fewer shards than lanes, several lanes share one: each takes an image in so many. An
    unreadable image is left out and named under ``unreadable`` of the lane's next sample.

    Args:
        shards: what :func:`declip.data.shards.find_shards` found.
        lanes: how many there are.
        views: makes the views of one image.
        seed: of the order and the crop grids.
    """

    def __init__(self, shards: Sequence[str], lanes: int, views: DistillationViews, seed: int) -> None:
        self.shards, self.lanes, self.views, self.seed = shards, lanes, views, seed
        self.sharing = math.ceil(lanes / len(shards))
        if self.sharing > 1:
            logging.getLogger(__name__).warning(
                "%d shards for batches of %d images: each is read by %d lanes, and %d or more would be read once",
                *(len(shards), lanes, self.sharing, lanes),
            )

    def __call__(self, lane: int, place: Place) -> Iterator[dict]:
        """The samples of a lane as of :class:`DistillationDataset`, without end, each with its ``place``.

        Raises:
            DataError: a shard is damaged, a whole run of images is unreadable, or there is none.
        """
        parts = len(self.shards) * self.sharing
        unreadable: dict[str, str] = {}
        position, last = place.position, place.shard
        for shard in count(place.shard):
            number = shard * self.lanes + lane
            epoch, turn = divmod(number, parts)
            which, first = divmod(int(shuffled(parts, self.seed, epoch)[turn]), self.sharing)
            begin = max(position, first)
            for position, name, content in read_shard(self.shards[which], begin, self.sharing):
                last = shard
                try:
                    least = DRAFT * self.views.sizes.student
                    image = torch.from_numpy(read_image(io.BytesIO(content), name=name, least_side=least))
                except DataError as error:
                    unreadable[name] = str(error)
                    if len(unreadable) == ATTEMPTS:
                        raise DataError(f"{ATTEMPTS} images in a row cannot be read, the last: {error}") from error
                    continue
                rng = np.random.default_rng((self.seed, number, position))
                views = self.views(image.permute(2, 0, 1), rng, name)
                behind = Place(shard, position + self.sharing)
                yield {**views, "file_name": name, "unreadable": unreadable, "place": behind}
                unreadable = {}
            position = 0
            if shard - last > EMPTY * parts:
                raise DataError(f"no image found in {len(self.shards)} shards, such as {self.shards[0]}: check them")


class UnreadableImages:
    """Counts the images that were skipped.

    Args:
        total: images in the source; None: not known, and the share is of those that were asked for so far.
    """

    def __init__(self, total: int | None) -> None:
        self.total, self.seen = total, 0
        self.messages: dict[str, str] = {}

    def add(self, batch: Sequence[dict]) -> None:
        """Take note of what a batch skipped.

        Raises:
            DataError: more than 1 % of the source is unreadable.
        """
        for sample in batch:
            self.messages.update(sample["unreadable"])
            self.seen += 1 + len(sample["unreadable"])
        total = max(self.seen, FIRST) if self.total is None else self.total
        if len(self.messages) > UNREADABLE_LIMIT * total:
            raise DataError(
                f"{len(self.messages)} of {total} images cannot be read, more than {UNREADABLE_LIMIT:.0%}: repair "
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
