"""Photos of the nano world as a collection from the web has them: whole scenes and close-ups, loosely captioned.

Shape legend
    S  side of a photo, pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from nanoworld.world import Scene, Segment

LEAST_SHARE = 0.06  # of a photo that a stuff or thing must fill to be mentioned
LEAST_VISIBLE = 0.4  # of a thing that a photo must show for it to be mentioned
MOST_THINGS = 3  # that a caption mentions
TEMPLATES = ("a photo of {}", "a picture of {}", "there is {} in the scene", "{}")

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Photo:
    """An image S×S×3 uint8 and its caption."""

    image: np.ndarray
    caption: str


def take_photos(scene: Scene, rng: Generator, count: int, size: int) -> list[Photo]:
    """One photo of the whole scene, and up to ``count - 1`` close-ups of different segments, ``size`` pixels wide."""
    side = len(scene.image)
    windows = [(0, 0, side, side)]
    for index in rng.permutation(len(scene.segments))[: count - 1]:
        windows.append(close_up(scene, int(index), rng))
    return [_take(scene, window, rng, size) for window in windows]


def close_up(scene: Scene, index: int, rng: Generator) -> Window:
    """A square around a thing, with some of its surroundings, or somewhere on a stuff."""
    segment, side = scene.segments[index], len(scene.image)
    if segment.is_thing:
        length = max(_sides(segment)) * rng.uniform(1.0, 1.9)
        slack = length - max(_sides(segment))
        center = _center(segment) + rng.uniform(-0.5, 0.5, 2) * slack
    else:
        rows, columns = np.nonzero(scene.segment_ids == index)
        place = int(rng.integers(len(rows)))
        length, center = rng.uniform(0.2, 0.5) * side, np.array([columns[place], rows[place]])
    return square_window(center, length, side)


def square_window(center: Sequence[float], length: float, side: int) -> Window:
    """The square (x0, y0, x1, y1) of ``length`` pixels around (x, y), shrunk and shifted into the image."""
    length = min(max(round(length), 8), side)
    x, y = (int(min(max(round(c - length / 2), 0), side - length)) for c in center)
    return x, y, x + length, y + length


def enlarged_window(segment: Segment, factor: float, side: int) -> Window:
    """The square around a segment's box whose side is ``factor`` times the longer side of the box."""
    return square_window(_center(segment), factor * max(_sides(segment)), side)


def cut_out(image: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The pixels of a window at ``size``×``size``, bicubic."""
    x0, y0, x1, y1 = window
    if (x1 - x0, y1 - y0) == (size, size):
        return image[y0:y1, x0:x1]
    return np.asarray(Image.fromarray(image[y0:y1, x0:x1]).resize((size, size), Image.Resampling.BICUBIC))


def _take(scene: Scene, window: Window, rng: Generator, size: int) -> Photo:
    image = cut_out(scene.image, window, size)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return Photo(np.ascontiguousarray(image), _caption(scene, window, rng))


def _caption(scene: Scene, window: Window, rng: Generator) -> str:
    """Up to three of the things that a window shows, and a stuff."""
    x0, y0, x1, y1 = window
    areas = np.bincount(scene.segment_ids[y0:y1, x0:x1].ravel(), minlength=len(scene.segments))
    large = areas >= LEAST_SHARE * (x1 - x0) * (y1 - y0)
    whole = (x1 - x0) == len(scene.image)  # shows things small, yet all there is of them
    things, stuffs = [], []
    for area, enough, segment in zip(areas, large, scene.segments, strict=True):
        if segment.is_thing and (enough or whole) and area >= LEAST_VISIBLE * segment.area:
            things.append(segment.name)
        elif not segment.is_thing and enough:
            stuffs.append(segment.name)
    shown = [f"a {things[k]}" for k in rng.permutation(len(things))[:MOST_THINGS]]
    ground = stuffs[int(rng.integers(len(stuffs)))] if stuffs else ""
    if ground and not shown and rng.random() < 0.5:
        ground = f"a {ground}"
    phrase = " on ".join(part for part in (" and ".join(shown), ground) if part)
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(phrase or "something")


def _sides(segment: Segment) -> tuple[int, int]:
    x0, y0, x1, y1 = segment.box
    return x1 - x0, y1 - y0


def _center(segment: Segment) -> np.ndarray:
    x0, y0, x1, y1 = segment.box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2])
