"""What a scene shows, in words."""

import numpy as np

from nanoworld.world import Scene


def caption_scene(scene: Scene, seed: int, index: int) -> str:
    """One caption: up to three things, and a stuff they are on; deterministic by (seed, index)."""
    rng = np.random.default_rng((seed, index, 1))
    things = [segment.name for segment in scene.segments if segment.is_thing]
    stuffs = [segment.name for segment in scene.segments if not segment.is_thing]
    shown = [things[k] for k in rng.permutation(len(things))[:3]]
    subject = " and ".join(f"a {name}" for name in shown)
    if not stuffs:
        return f"a photo of {subject}"
    ground = stuffs[int(rng.integers(len(stuffs)))]
    return f"a photo of {subject} on {ground}" if shown else f"a photo of {ground}"
