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
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.command import run_command
from nanoworld.plugin import NANO_DIFFUSION, NANO_VFM

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from declip.teachers.diffusion import DiffusionAttention
    from declip.teachers.foundation import FoundationTeacher
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


def completed(foundation: "FoundationTeacher", diffusion: "DiffusionAttention | None") -> Affinity:
    """Affinities of a foundation model, completed by a diffusion model or not."""
    import torch
    import torch.nn.functional as F

    from declip.teachers.completed import Completed

    @torch.no_grad()
    def affinity(image: "Tensor") -> "Tensor":
        features = foundation(foundation.normalize(image[None]))
        grid = tuple(features.shape[2:])
        if diffusion is None:
            units = F.normalize(features[0].flatten(1).T, dim=1)
            return units @ units.T
        seen = F.interpolate(image[None], [side * diffusion.pixels for side in grid], mode="bilinear", antialias=True)
        digest = str(image.sum().item())  # noise is drawn by it
        return Completed(foundation, diffusion)(features, seen.clamp(0, 255), [digest])[0].rows(slice(None))

    return affinity


def draw(affinities: "Mapping[str, Affinity]", scene: "Scene") -> "Figure":
    """For each affinity: how strongly a patch in the largest thing belongs to every other, and borders."""
    import numpy as np
    import torch
    from matplotlib.figure import Figure

    from nanoworld.completion import boundary_strengths
    from nanoworld.evaluation import patch_segments

    segments, _ = patch_segments(scene.segment_ids, 8)
    things = [index for index, segment in enumerate(scene.segments) if segment.is_thing]
    largest = max(things, key=lambda index: scene.segments[index].area)
    rows, columns = np.nonzero(segments == largest)
    middle = len(rows) // 2
    anchor = int(rows[middle]), int(columns[middle])
    figure = Figure(figsize=(6.4, 2 * (1 + len(affinities))), layout="constrained")
    panels = figure.subplots(1 + len(affinities), 3)
    for axes in panels.flat:
        axes.axis("off")
    panels[0, 0].imshow(scene.image)
    panels[0, 0].plot(8 * anchor[1] + 4, 8 * anchor[0] + 4, "o", color="white", markeredgecolor="black")
    panels[0, 0].set_title("scene, and a patch", fontsize=8)
    panels[0, 1].imshow(segments, cmap="tab20")
    panels[0, 1].set_title("segments", fontsize=8)
    image = torch.from_numpy(scene.image).permute(2, 0, 1).float()
    for line, (title, affinity) in zip(panels[1:], affinities.items(), strict=True):
        found = affinity(image)
        across, down = boundary_strengths(found, segments.shape)
        borders = torch.zeros(segments.shape)
        borders[:, 1:] += across
        borders[1:] += down
        line[0].imshow(found[anchor[0] * segments.shape[1] + anchor[1]].reshape(segments.shape), cmap="magma")
        line[0].set_title(title, fontsize=8)
        line[1].imshow(borders, cmap="magma")
        line[1].set_title("borders", fontsize=8)
        line[2].imshow(found, cmap="magma")
        line[2].set_title("all affinities", fontsize=8)
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
    add(
        "--picture",
        type=arguments.output_file(".png", ".svg", ".pdf"),
        help="file to draw the first scene to; none is drawn without it",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
