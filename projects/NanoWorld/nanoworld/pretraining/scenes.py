"""Endless scenes for pre-training, drawn when asked for.

Shape legend
    P  photos of a scene        S, s  sides of photos and of views or whole scenes, pixels
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from nanoworld.model import nano_tokenizer
from nanoworld.photos import Window, cut_out, take_photos
from nanoworld.vocabulary import COLORS, SHAPES, THINGS
from nanoworld.world import Scene, render_scene

EPOCH = 100_000  # scenes; each epoch draws others
SAME_COLOR = 0.7  # share of the scenes for photos whose things are of one colour
SERIES = 1000  # added to a run's seed, so that no scene of the datasets (seeds below) is drawn


class SceneDataset(Dataset):
    """Scenes of a series of their own; subclasses say what is seen of each.

    Args:
        seed: of the series.
    """

    def __init__(self, seed: int) -> None:
        self.seed = SERIES + seed

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, place: tuple[int, int]) -> dict:
        """A sample by (epoch, index), whatever process asks."""
        epoch, index = place
        number = epoch * EPOCH + index
        rng = np.random.default_rng((self.seed, number, 2))
        return self.observe(render_scene(self.seed, number, self.things(rng)), rng)

    def things(self, rng: Generator) -> Sequence[str]:
        """What a scene may hold."""
        return THINGS

    def observe(self, scene: Scene, rng: Generator) -> dict:
        """What is seen of a scene."""
        raise NotImplementedError  # abstract


class CaptionedPhotos(SceneDataset):
    """``photos`` P×3×S×S uint8 and ``tokens`` P×L int64 of their captions."""

    def __init__(self, seed: int, photos_per_scene: int, size: int) -> None:
        super().__init__(seed)
        self.photos_per_scene, self.size, self.tokenizer = photos_per_scene, size, nano_tokenizer()

    def things(self, rng: Generator) -> Sequence[str]:
        """Mostly things of one colour: close-ups of a scene then differ by shape, which is harder to see."""
        if rng.random() > SAME_COLOR:
            return THINGS
        color = list(COLORS)[int(rng.integers(len(COLORS)))]
        return [f"{color} {shape}" for shape in SHAPES]

    def observe(self, scene: Scene, rng: Generator) -> dict:
        """Photos of a scene."""
        photos = take_photos(scene, rng, self.photos_per_scene, self.size)
        images = torch.from_numpy(np.stack([photo.image for photo in photos])).permute(0, 3, 1, 2)
        return {"photos": images, "tokens": self.tokenizer([photo.caption for photo in photos])}


class TwoViews(SceneDataset):
    """``views`` 2×3×s×s uint8 of the same scene, and ``windows`` 2×4: x0, y0, x1, y1 in pixels of the scene.

    A view that is mirrored has x0 > x1. ``seed`` is for what training draws for the scene.
    """

    def __init__(self, seed: int, size: int, smallest: float = 0.5) -> None:
        super().__init__(seed)
        self.size, self.smallest = size, smallest

    def observe(self, scene: Scene, rng: Generator) -> dict:
        """Two square windows, each at least ``smallest`` of the scene's side, in a light of their own."""
        views, windows = zip(*(self._view(scene.image, rng) for _ in range(2)), strict=True)
        windows = torch.tensor(windows, dtype=torch.float32)
        return {"views": torch.stack(views), "windows": windows, "seed": int(rng.integers(2**32))}

    def _view(self, image: np.ndarray, rng: Generator) -> tuple[Tensor, Window]:
        side = len(image)
        length = int(rng.integers(round(self.smallest * side), side + 1))
        x, y = (int(rng.integers(side - length + 1)) for _ in range(2))
        window = (x, y, x + length, y + length)
        view = cut_out(image, window, self.size).astype(np.float32)
        contrast, brightness = rng.uniform(0.75, 1.25), rng.uniform(-20, 20)
        view = (
            (view - 128) * contrast + 128 + brightness + rng.standard_normal(view.shape, np.float32) * rng.uniform(0, 8)
        )
        if rng.random() < 0.5:
            view, window = view[:, ::-1], (window[2], window[1], window[0], window[3])
        pixels = torch.from_numpy(np.ascontiguousarray(view.clip(0, 255).astype(np.uint8)))
        return pixels.permute(2, 0, 1), window


class WholeScenes(SceneDataset):
    """``image`` 3×s×s uint8, half of them mirrored. ``seed`` is for what training draws for the scene."""

    def __init__(self, seed: int, size: int) -> None:
        super().__init__(seed)
        self.size = size

    def observe(self, scene: Scene, rng: Generator) -> dict:
        """All of the scene."""
        image = cut_out(scene.image, (0, 0, len(scene.image), len(scene.image)), self.size)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return {"image": pixels, "seed": int(rng.integers(2**32))}
