"""Procedural scenes: textured stuff behind coloured things, with exact labels.

Shape legend
    S  side of a scene, pixels (128)

A scene is a function of (seed, index) alone. Two to four stuff regions, separated by wavy borders, fill the
background, each with its own procedural texture; three to eight things of varying size, tilt and shade lie
on top and hide one another, each shape with markings of its own; light, noise and small speckles (clutter that
belongs to no class) make pixels alone unreliable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import find_objects

from nanoworld.vocabulary import CLASSES, COLORS, SHAPES, STUFF, STUFF_COLORS, THINGS

TILT = 0.35  # radians that things lean by at most: upright, as most things are
BLACK, WHITE = 15.0, 245.0
MIN_VISIBLE = 24  # pixels of a thing that must remain visible for it to stay in the scene


@dataclass(frozen=True)
class Segment:
    """One region of a scene: a thing, or all pixels of a stuff.

    Attributes:
        name: its class.
        is_thing: False for stuff.
        box: (x0, y0, x1, y1) in pixels, exclusive end.
        area: pixels.
    """

    name: str
    is_thing: bool
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Scene:
    """An image and its labels.

    Attributes:
        image: S×S×3 uint8 RGB.
        segment_ids: S×S uint8; k where ``segments[k]`` is visible.
        segments: stuffs first, then things from back to front.
    """

    image: np.ndarray
    segment_ids: np.ndarray
    segments: tuple[Segment, ...]

    def class_map(self, classes: Sequence[str], ignore_label: int = 255) -> np.ndarray:
        """S×S uint8 indices into ``classes``; ``ignore_label`` where the class is not among them."""
        index = {name: number for number, name in enumerate(classes)}
        table = np.array([index.get(segment.name, ignore_label) for segment in self.segments], dtype=np.uint8)
        return table[self.segment_ids]


def render_scene(seed: int, index: int, things: Sequence[str] = THINGS, size: int = 128) -> Scene:
    """Scene ``index`` of the series ``seed``, with things drawn from ``things`` only."""
    rng = np.random.default_rng((seed, index))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    image, stuff_map, names = _background(rng, rows, columns)
    num_stuffs, ids = len(names), stuff_map.copy()
    for _ in range(int(rng.integers(3, 9))):
        name = things[int(rng.integers(len(things)))]
        _draw_thing(rng, name, image, ids, len(names))
        names.append(name)
    _speckle(rng, image)
    _light(rng, image, rows, columns)
    return _finish(image, ids, names, num_stuffs, stuff_map)


def _finish(image: np.ndarray, ids: np.ndarray, names: list[str], num_stuffs: int, stuff_map: np.ndarray) -> Scene:
    """Number the segments that are visible; a thing nearly hidden counts as clutter on its stuff."""
    areas = np.bincount(ids.ravel(), minlength=len(names))
    hidden = (areas < MIN_VISIBLE) & (np.arange(len(names)) >= num_stuffs)
    if areas[hidden].any():
        ids = np.where(hidden[ids], stuff_map, ids)
        areas = np.bincount(ids.ravel(), minlength=len(names))
    visible = np.flatnonzero(areas)
    renumber = np.zeros(len(names), np.uint8)
    renumber[visible] = np.arange(len(visible), dtype=np.uint8)
    ids = renumber[ids]
    segments = tuple(
        Segment(names[k], bool(k >= num_stuffs), (columns.start, rows.start, columns.stop, rows.stop), int(areas[k]))
        for k, (rows, columns) in zip(visible, find_objects(ids + 1), strict=True)
    )
    return Scene(image.clip(0, 255).astype(np.uint8), ids, segments)


def _background(rng: Generator, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two to four stuffs side by side along a random direction, with wavy borders."""
    count = int(rng.integers(2, 5))
    stuffs = [STUFF[k] for k in rng.permutation(len(STUFF))[:count]]
    angle = rng.uniform(0, math.pi)
    sine, cosine = math.sin(angle), math.cos(angle)
    waves = np.sin((rows * cosine - columns * sine) * rng.uniform(0.05, 0.14) + rng.uniform(0, 6.28))
    along = rows * sine + columns * cosine + rng.uniform(2, 7) * waves
    spread = np.sort(along[::4, ::4], axis=None)
    cuts = (np.arange(1, count) + rng.uniform(-0.25, 0.25, count - 1)) / count
    stuff_map = np.zeros(rows.shape, np.uint8)
    for border in spread[(cuts * (len(spread) - 1)).astype(int)]:
        stuff_map += along > border
    image = np.empty((*rows.shape, 3), np.float32)
    for k, name in enumerate(stuffs):
        mask = stuff_map == k
        color = np.array(STUFF_COLORS[name], np.float32) * np.float32(rng.uniform(0.85, 1.15))
        image[mask] = color + _texture(rng, name, rows, columns)[mask][:, None]
    return image, stuff_map, stuffs


def _texture(rng: Generator, name: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Brightness S×S that is typical of a stuff."""
    phase, size = rng.uniform(0, 6.28), len(rows)
    match name:
        case "grass":
            return 26 * np.repeat(rng.standard_normal((size // 4 + 1, size), np.float32), 4, axis=0)[:size]
        case "water":
            return 22 * np.sin(rows * 0.55 + 1.6 * np.sin(columns * 0.13 + phase))
        case "sand":
            return 20 * rng.standard_normal((size, size), np.float32)
        case "brick":
            course = rows // 7
            shifted = columns + 7 * (course % 2)
            joint = (rows % 7 < 1) | ((shifted + phase) % 14 < 1)
            return np.where(joint, 70, 8 * np.sin(course * 12.9 + shifted // 14 * 7.7))
        case "sky":
            return 18 * np.sin(rows * 0.035 + phase) + 14 * np.sin(columns * 0.05 + rows * 0.02 + phase)
        case "wood":
            rings = columns + 5 * np.sin(rows * 0.06 + phase)
            return 24 * np.sin(rings * 0.75) + 10 * np.sin(rings * 0.21)
    raise ValueError(f"'{name}' is not a stuff of the nano world")


def _draw_thing(rng: Generator, name: str, image: np.ndarray, ids: np.ndarray, number: int) -> None:
    """Draw a thing at a random place and size (9 to 30 px across a half), tilted a little, within its own window."""
    color, shape = name.split()
    size = len(image)
    radius = size * rng.uniform(0.07, 0.235)
    center = rng.uniform(0.5 * radius, size - 0.5 * radius, 2)
    reach = 1.1 * radius
    window = tuple(slice(max(int(c - reach), 0), min(math.ceil(c + reach) + 1, size)) for c in center)
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in window)
    angle = rng.uniform(-TILT, TILT)
    dy, dx = (rows - np.float32(center[0]))[:, None], (columns - np.float32(center[1]))[None]
    sine, cosine = math.sin(angle), math.cos(angle)
    y, x = dy * cosine - dx * sine, dy * sine + dx * cosine
    scale = np.float32(1 / radius)
    mask = _shape_mask(shape, y * scale, x * scale)
    surface = _surface(rng, COLORS[color], dy, dx)
    accent, marked = _markings(rng, shape, y, x)
    surface += rng.uniform(0.5, 0.8) * (accent - surface) * marked[..., None]
    image[window][mask] = surface[mask]
    ids[window][mask] = number


def _shape_mask(shape: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which points of the plane, in units of the radius, belong to a shape; none lies beyond 1.1."""
    match shape:
        case "circle":
            return np.hypot(y, x) < 0.9
        case "square":
            return np.maximum(abs(y), abs(x)) < 0.75
        case "triangle":
            return (y > -0.55) & (y + 1.75 * abs(x) < 1.05)
        case "star":
            turn = np.arctan2(x, y) * np.float32(5 / (2 * math.pi))
            return np.hypot(y, x) < 0.42 + 0.62 * (1 - 2 * abs(turn - np.round(turn))) ** 1.5
        case "cross":
            return (np.minimum(abs(y), abs(x)) < 0.3) & (np.maximum(abs(y), abs(x)) < 0.95)
        case "ring":
            distance = np.hypot(y, x)
            return (distance < 0.97) & (distance > 0.52)
    raise ValueError(f"'{shape}' is not one of the shapes {', '.join(SHAPES)}")


def _markings(rng: Generator, shape: str, y: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
    """What marks things of a shape, as fur or bark marks things of the world: their brightness, and where they are.

    Args:
        y, x: pixels from the middle, in the thing's own frame.
    """
    phase = rng.uniform(0, 2 * math.pi)
    match shape:
        case "circle":
            return WHITE, np.sin(np.hypot(y, x) * 0.9 + phase) > 0  # shells
        case "square":
            return BLACK, np.sin(y * 0.7 + phase) * np.sin(x * 0.7 + phase) > 0  # checks
        case "triangle":
            return WHITE, np.sin(y * 1.0 + phase) > 0.5  # level stripes
        case "star":
            return WHITE, np.sin(y * 1.0 + phase) + np.sin(x * 1.0) > 1.1  # dots
        case "cross":
            return BLACK, np.sin((y + x) * 0.7 + phase) > 0.3  # slanting stripes
        case "ring":
            return WHITE, np.zeros(np.broadcast(y, x).shape, dtype=bool)
    raise ValueError(f"'{shape}' is not one of the shapes {', '.join(SHAPES)}")


def _surface(rng: Generator, color: Sequence[int], dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """A thing's colour in a random shade, with a gradient and a faint grain, for every pixel of its window."""
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.45)
    gradient = (dy * math.sin(angle) + dx * math.cos(angle)) * slope
    grain = rng.standard_normal(gradient.shape, np.float32) * rng.uniform(2, 9)
    body = np.array(color) * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10, 3)
    return body.astype(np.float32) + (gradient + grain)[..., None]


def _speckle(rng: Generator, image: np.ndarray) -> None:
    """Small specks in random colours."""
    size, count = len(image), int(rng.integers(6, 18))
    places, radii = rng.integers(0, size - 2, (count, 2)), rng.integers(1, 3, count)
    for (y, x), radius, color in zip(places, radii, rng.uniform(0, 255, (count, 3)), strict=True):
        image[y : y + radius, x : x + radius] = color


def _light(rng: Generator, image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """A soft change of light over the scene, and sensor noise."""
    size = len(image)
    tilt_y, tilt_x = (float(tilt) / size for tilt in rng.uniform(-0.25, 0.25, 2))
    image *= (rng.uniform(0.85, 1.12) + tilt_y * (rows - size / 2) + tilt_x * (columns - size / 2))[..., None]
    image += (rng.standard_normal(rows.shape, np.float32) * np.float32(rng.uniform(1, 6)))[..., None]


def class_color(name: str) -> tuple[int, int, int]:
    """The colour of a class in label pictures: its own, darkened a little by shape so that shapes differ."""
    assert name in CLASSES, f"'{name}' is not a class of the nano world"
    if name in STUFF_COLORS:
        return STUFF_COLORS[name]
    color, shape = name.split()
    factor = 1 - 0.11 * SHAPES.index(shape)
    return tuple(int(channel * factor) for channel in COLORS[color])
