#!/usr/bin/env python3
"""What completing a foundation model's affinities by a diffusion model's self-attention does, in nano scenes.

tools/nano/completion.py
tools/nano/completion.py --diffusion output/nano_diffusion/weights --timesteps 45 --picture output/completion.png

S: cosines of nano-VFM's features; A: attention of a layer of the diffusion model at a timestep; S A, A S: completed.
AUROC: a patch's row, what it gives to its own segment against the rest, mean over patches and scenes. F: borders
between segments, found where rows of neighbouring patches differ, at the best threshold.
"""

import argparse
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.command import run_command
from nanoworld.plugin import NANO_DIFFUSION, NANO_VFM

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from nanoworld.world import Scene

STEPS = 50
CELLS = 4  # of the diffusion model's pixels for a patch, along a side
LAYERS = {
    "down": ("down_blocks.1.attentions.0",),
    "middle": ("mid_block.attentions.0",),
    "first up": ("up_blocks.1.attentions.0",),
    "second up": ("up_blocks.1.attentions.1",),
    "both up": ("up_blocks.1.attentions.0", "up_blocks.1.attentions.1"),
}


def main(args: argparse.Namespace) -> None:
    """Print a table, and draw a scene if asked to."""
    import torch
    import torch.nn.functional as F
    from tabulate import tabulate

    from declip.teachers.diffusion import DiffusionOptions, load_diffusion
    from declip.teachers.foundation import FoundationTeacher
    from nanoworld.completion import evaluate_rows
    from nanoworld.evaluation import scenes_of

    torch.manual_seed(0)  # of random weights
    scenes, foundation = scenes_of(args.scene_seed, args.scenes), FoundationTeacher(NANO_VFM, args.teacher)
    images = [torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() for scene in scenes]
    with torch.no_grad():
        maps = [foundation(foundation.normalize(image))[0] for image in images]
    units = [F.normalize(each.flatten(1).T, dim=1) for each in maps]
    cosines, grid = [each @ each.T for each in units], tuple(maps[0].shape[1:])
    own = evaluate_rows(cosines, scenes)
    rows = [["S", "", "", own["row_auroc"], "", "", own["boundary_f"], ""]]
    seen = [F.interpolate(each, [CELLS * side for side in grid], mode="bilinear", antialias=True)[0] for each in images]
    pictures = {"S": cosines[0]}
    for timestep in args.timesteps:
        for title, layers in LAYERS.items():
            options = DiffusionOptions(layers=layers, timestep=timestep, steps=STEPS, cells=CELLS)
            diffusion = load_diffusion(args.diffusion, args.diffusion_weights, options=options)
            attention = [diffusion(each.clamp(0, 255), grid, f"{k}") for k, each in enumerate(seen)]
            spread = [s @ a for s, a in zip(cosines, attention, strict=True)]
            mean = [a @ s for s, a in zip(cosines, attention, strict=True)]
            found = [evaluate_rows(each, scenes) for each in (attention, spread, mean)]
            values = [each[name] for name in ("row_auroc", "boundary_f") for each in found]
            rows.append([title, timestep, *values])
            pictures |= {f"A, {title}, {timestep}": attention[0], f"A S, {title}, {timestep}": mean[0]}
    headers = ["layer", "timestep", "AUROC: A", "S A", "A S", "F: A", "S A", "A S"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".3f"))
    if args.picture:
        draw(scenes[0], pictures, 2 * len(LAYERS)).savefig(args.picture, dpi=130)


def draw(scene: "Scene", affinities: "dict[str, Tensor]", columns: int) -> "Figure":
    """How strongly a patch of the largest thing belongs to the others, by each affinity; the first beside the scene."""
    import numpy as np
    from matplotlib.figure import Figure

    from nanoworld.evaluation import patch_segments

    segments, _ = patch_segments(scene.segment_ids, 8)
    things = [index for index, segment in enumerate(scene.segments) if segment.is_thing]
    inside = np.flatnonzero(segments == max(things, key=lambda index: scene.segments[index].area))
    patch = int(inside[len(inside) // 2])
    figure = Figure(figsize=(1.2 * columns, 1.35 * (1 + len(affinities) // columns)), layout="constrained")
    panels = figure.subplots(1 + len(affinities) // columns, columns).ravel()
    for axes in panels:
        axes.axis("off")
    panels[0].imshow(scene.image)
    row, column = divmod(patch, segments.shape[1])
    panels[0].plot(8 * column + 4, 8 * row + 4, "o", color="white", markeredgecolor="black")
    panels[1].imshow(segments, cmap="tab20")
    places = [panels[2], *panels[columns:]]
    for axes, (title, affinity) in zip(places, affinities.items(), strict=True):
        axes.imshow(affinity[patch].reshape(segments.shape), cmap="magma")
        axes.set_title(title, fontsize=6)
    return figure


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", default="pretrained", help=f"weights of {NANO_VFM} (default: %(default)s)")
    add("--diffusion", default=NANO_DIFFUSION, help="name or folder (default: %(default)s)")
    add("--diffusion-weights", default="pretrained", choices=["pretrained", "random"], help="default: %(default)s")
    add(
        "--timesteps",
        type=arguments.whole_number(0, STEPS - 1),
        nargs="+",
        default=[25, 35, 45, 49],
        help=f"entries of {STEPS}, 0 the noisiest (default: %(default)s)",
    )
    add(
        "--scene-seed",
        type=arguments.seed,
        default=4,
        help="series of the scenes; 4 is that of nano_test (default: %(default)s)",
    )
    add("--scenes", type=arguments.positive, default=50, help="default: %(default)s")
    add("--picture", type=arguments.output_file(".png", ".svg", ".pdf"), help="of the first scene; none without it")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
