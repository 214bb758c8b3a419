"""Procedural scenes: textured stuff behind coloured things, with exact labels.

Shape legend
    S  side of a scene, pixels (128)

A scene is a function of (seed, index) alone. Two to four stuff regions, separated by wavy borders, fill the
background, each with its own procedural texture; three to eight things of varying size, rotation, shade and sharpness
lie on top and hide one another; light, noise and small speckles (clutter that belongs to no class) make pixels alone
unreliable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from declip.nano.vocabulary import CLASSES, COLORS, SHAPES, STUFF, STUFF_COLORS, THINGS

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
    image, stuff_map, stuffs = _background(rng, rows, columns)
    names, ids = list(stuffs), stuff_map
    for _ in range(int(rng.integers(3, 9))):
        name = things[int(rng.integers(len(things)))]
        mask = _thing_mask(rng, name.split()[1], rows, columns)
        image = _paint(rng, image, mask, np.array(COLORS[name.split()[0]], np.float32), rows, columns)
        ids = np.where(mask, len(names), ids)
        names.append(name)
    image = _light(rng, _speckle(rng, image), rows, columns)
    return _finish(image, ids, names, len(stuffs), stuff_map)


def _finish(image: np.ndarray, ids: np.ndarray, names: list[str], num_stuffs: int, stuff_map: np.ndarray) -> Scene:
    """Number the segments that are visible; a thing nearly hidden counts as clutter on its stuff."""
    areas = np.bincount(ids.ravel(), minlength=len(names))
    hidden = [k for k in range(num_stuffs, len(names)) if 0 < areas[k] < MIN_VISIBLE]
    if hidden:
        ids = np.where(np.isin(ids, hidden), stuff_map, ids)
        areas = np.bincount(ids.ravel(), minlength=len(names))
    visible = np.flatnonzero(areas)
    renumber = np.zeros(len(names), np.uint8)
    renumber[visible] = np.arange(len(visible), dtype=np.uint8)
    segments = []
    for k in visible:
        rows, columns = np.nonzero(ids == k)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        segments.append(Segment(names[k], bool(k >= num_stuffs), box, int(areas[k])))
    return Scene(image.clip(0, 255).astype(np.uint8), renumber[ids], tuple(segments))


def _background(rng, rows, columns) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two to four stuffs side by side along a random direction, with wavy borders."""
    count, size = int(rng.integers(2, 5)), len(rows)
    stuffs = [STUFF[k] for k in rng.permutation(len(STUFF))[:count]]
    angle = rng.uniform(0, np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    along = along + rng.uniform(2, 7) * np.sin(across * rng.uniform(0.05, 0.14) + rng.uniform(0, 6.28))
    spread = np.sort(along.ravel())[:: max(size * size // 1000, 1)]
    cuts = (np.arange(1, count) + rng.uniform(-0.25, 0.25, count - 1)) / count
    stuff_map = np.digitize(along, spread[(cuts * (len(spread) - 1)).astype(int)])
    image = np.empty((size, size, 3), np.float32)
    for k, name in enumerate(stuffs):
        mask = stuff_map == k
        color = np.array(STUFF_COLORS[name], np.float32) * rng.uniform(0.85, 1.15)
        image[mask] = color + _texture(rng, name, rows, columns)[mask][:, None]
    return image, stuff_map, stuffs


def _texture(rng, name: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Brightness S×S that is typical of a stuff."""
    phase, size = rng.uniform(0, 6.28), len(rows)
    match name:
        case "grass":
            return 26 * np.repeat(rng.standard_normal((size // 4 + 1, size)), 4, axis=0)[:size].astype(np.float32)
        case "water":
            return 22 * np.sin(rows * 0.55 + 1.6 * np.sin(columns * 0.13 + phase))
        case "sand":
            return 20 * rng.standard_normal((size, size)).astype(np.float32)
        case "brick":
            course = (rows // 7).astype(int)
            joint = (rows % 7 < 1) | ((columns + 7 * (course % 2) + phase) % 14 < 1)
            return np.where(joint, 70, 8 * np.sin(course * 12.9 + (columns + 7 * (course % 2)) // 14 * 7.7))
        case "sky":
            return 18 * np.sin(rows * 0.035 + phase) + 14 * np.sin(columns * 0.05 + rows * 0.02 + phase)
        case "wood":
            rings = columns + 5 * np.sin(rows * 0.06 + phase)
            return 24 * np.sin(rings * 0.75) + 10 * np.sin(rings * 0.21)
    raise ValueError(f"'{name}' is not a stuff of the nano world")


def _thing_mask(rng, shape: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """S×S bool: a shape at a random place, size (9 to 30 px across a half) and rotation."""
    radius = len(rows) * rng.uniform(0.07, 0.235)
    center = rng.uniform(0.5 * radius, len(rows) - 0.5 * radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    dy, dx = (rows - center[0]) / radius, (columns - center[1]) / radius
    y, x = dy * np.cos(angle) - dx * np.sin(angle), dy * np.sin(angle) + dx * np.cos(angle)
    distance = np.hypot(y, x)
    match shape:
        case "circle":
            return distance < 0.9
        case "square":
            return np.maximum(abs(y), abs(x)) < 0.75
        case "triangle":
            return (y > -0.55) & (y + 1.75 * abs(x) < 1.05)
        case "star":
            turn = np.arctan2(x, y) * 5 / (2 * np.pi)
            return distance < 0.42 + 0.62 * (1 - 2 * abs(turn - np.round(turn))) ** 1.5
        case "cross":
            return (np.minimum(abs(y), abs(x)) < 0.3) & (np.maximum(abs(y), abs(x)) < 0.95)
        case "ring":
            return (distance < 0.97) & (distance > 0.52)
    raise ValueError(f"'{shape}' is not one of the shapes {', '.join(SHAPES)}")


def _paint(rng, image, mask, color, rows, columns) -> np.ndarray:
    """Paint a thing: its colour in a random shade, with a gradient and a faint grain."""
    angle = rng.uniform(0, 2 * np.pi)
    gradient = (rows * np.sin(angle) + columns * np.cos(angle)) * rng.uniform(0, 0.45)
    body = color * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10, 3)
    grain = rng.standard_normal(rows.shape).astype(np.float32) * rng.uniform(2, 9)
    shade = gradient - gradient[mask].mean() if mask.any() else gradient
    return np.where(mask[..., None], body + (shade + grain)[..., None], image)


def _speckle(rng, image: np.ndarray) -> np.ndarray:
    """Small specks in random colours."""
    size, count = len(image), int(rng.integers(6, 18))
    for y, x, radius in zip(*rng.integers(0, size - 2, (2, count)), rng.integers(1, 3, count), strict=True):
        image[y : y + radius, x : x + radius] = rng.uniform(0, 255, 3)
    return image


def _light(rng, image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A soft change of light over the scene, and sensor noise."""
    tilt = rng.uniform(-0.25, 0.25, 2) / len(rows)
    light = rng.uniform(0.85, 1.12) + tilt[0] * (rows - len(rows) / 2) + tilt[1] * (columns - len(rows) / 2)
    noise = rng.standard_normal(rows.shape).astype(np.float32) * rng.uniform(1, 6)
    return image * light[..., None] + noise[..., None]


def class_color(name: str) -> tuple[int, int, int]:
    """The colour of a class in label pictures: its own, darkened a little by shape so that shapes differ."""
    assert name in CLASSES, f"'{name}' is not a class of the nano world"
    if name in STUFF_COLORS:
        return STUFF_COLORS[name]
    color, shape = name.split()
    factor = 1 - 0.11 * SHAPES.index(shape)
    return tuple(int(channel * factor) for channel in COLORS[color])
