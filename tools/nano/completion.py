#!/usr/bin/env python3
"""What completing a foundation model's affinities by a diffusion model's self-attention does, in nano scenes.

tools/nano/completion.py
tools/nano/completion.py --timesteps 45 --teacher random --picture output/completion.png

One row for the affinities as they are, and one for every layer and timestep. AUROC: a patch's affinities, those to its
own segment against the others, mean over patches and scenes. F: borders between segments found where rows of
neighbouring patches differ, at the best threshold.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.command import run_command
from nanoworld.plugin import NANO_DIFFUSION, NANO_VFM

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from declip.teachers.completed import Completed
    from declip.teachers.diffusion import DiffusionAttention
    from nanoworld.world import Scene

STEPS = 50
CELLS = 4  # of the diffusion model's pixels for a patch of the foundation model's
LAYERS = {
    "down": ("down_blocks.1.attentions.0",),
    "middle": ("mid_block.attentions.0",),
    "first up": ("up_blocks.1.attentions.0",),
    "second up": ("up_blocks.1.attentions.1",),
    "both up": ("up_blocks.1.attentions.0", "up_blocks.1.attentions.1"),
}
Affinity = Callable[["Tensor"], "Tensor"]  # image 3×S×S in 0..255 → N×N


def main(args: argparse.Namespace) -> None:
    """Print a table, and draw a scene if asked to."""
    import torch
    from tabulate import tabulate

    from declip.teachers.diffusion import DiffusionOptions, load_diffusion
    from declip.teachers.foundation import FoundationTeacher
    from nanoworld.completion import evaluate_rows
    from nanoworld.evaluation import scenes_of

    torch.manual_seed(0)  # of random weights
    foundation = FoundationTeacher(NANO_VFM, args.teacher)
    scenes = scenes_of(args.scene_seed, args.scenes)
    affinities: dict[str, Affinity] = {f"{NANO_VFM}, {args.teacher}": completed(foundation, None)}
    for timestep in args.timesteps:
        for title, layers in LAYERS.items():
            options = DiffusionOptions(layers=layers, timestep=timestep, steps=STEPS, cells=CELLS)
            diffusion = load_diffusion(args.diffusion, args.diffusion_weights, options=options)
            affinities[f"{title}, step {timestep} of {STEPS}"] = completed(foundation, diffusion)
    rows = [[title, *evaluate_rows(affinity, scenes).values()] for title, affinity in affinities.items()]
    print(tabulate(rows, ["completed by", "AUROC", "F"], tablefmt="github", floatfmt=("", ".4f", ".3f")))
    if args.picture:
        draw(affinities, scenes[0]).savefig(args.picture, dpi=130)


if __name__ == "__main__":
    pass
