#!/usr/bin/env python3
"""How well features of patches follow the segments of nano scenes: foundation models beside CLIP encoders.

tools/nano/affinities.py
tools/nano/affinities.py --teachers output/nano_vfm/weights.safetensors --encoders nano-clip nano-declip

AUROC: cosines between patches, pairs of one segment against pairs of two, mean over scenes. And the percent of pairs
within a segment, and across a thing and a stuff, whose cosines are high.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import ConfigError
from declip.contexts import ContextType
from nanoworld.plugin import NANO_VFM

if TYPE_CHECKING:
    from torch import Tensor


def main(args: argparse.Namespace) -> None:
    """Print a table with a row for each model."""
    import torch
    from tabulate import tabulate

    from nanoworld.evaluation import ALIKE, evaluate_affinities, scenes_of

    if not args.teachers and not args.encoders:
        raise ConfigError("there is nothing to compare: name weights of --teachers or --encoders")
    torch.manual_seed(0)  # of random teachers
    models = {f"{NANO_VFM}, {weights}": teacher_features(weights) for weights in args.teachers}
    models |= {f"{weights}, {args.context}": encoder_features(weights, args.context) for weights in args.encoders}
    scenes = scenes_of(args.scene_seed, args.scenes)
    rows = [[name, *evaluate_affinities(features, scenes).values()] for name, features in models.items()]
    headers = ["features", "AUROC", f"above {ALIKE} within a segment %", "across a thing and a stuff %"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", ".4f", ".1f", ".1f")))


def teacher_features(weights: str) -> "Callable[[Tensor], Tensor]":
    """Images in 0..255 → features of nano-VFM."""
    from declip.teachers.foundation import FoundationTeacher

    teacher = FoundationTeacher(NANO_VFM, weights)
    return lambda images: teacher(teacher.normalize(images))


def encoder_features(weights: str, context: str) -> "Callable[[Tensor], Tensor]":
    """Images in 0..255 → dense features of an encoder of the nano world."""
    from declip import build_encoder

    encoder = build_encoder("nano", weights=weights, context=context).eval()
    return lambda images: encoder.encode_dense(encoder.normalize(images)).content


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teachers", nargs="*", default=["pretrained", "random"], help=f"weights of {NANO_VFM} (default: %(default)s)")
    add("--encoders", nargs="*", default=["nano-clip"], help="weights of encoders (default: %(default)s)")
    contexts = [kind.value for kind in ContextType]
    add(
        "--context", default="vanilla", choices=contexts, help="how encoders' last block attends (default: %(default)s)"
    )
    add(
        "--scene-seed",
        type=arguments.seed,
        default=4,
        help="series of the scenes; 4 is that of nano_test (default: %(default)s)",
    )
    add("--scenes", type=arguments.positive, default=100, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
