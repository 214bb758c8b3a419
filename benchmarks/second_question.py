#!/usr/bin/env python3
"""Asking about an image again: the first question, the same with other words, and with words that were asked before.

The baseline is the first question, which encodes the image. Names are embedded before it, so that the image alone is
what differs; what a new name costs is a row of its own. Weights are random but for nano's: time is what counts here.
"""

import argparse

import numpy as np
import torch

from catseg.config import get_catseg_cfg
from catseg.segmenter import CATSegSegmenter
from d2host import build_model
from declip.data.class_lists import first_synonym, load_class_list
from declip.encoder_segmenter import EncoderSegmenter, load_segmenter
from declip.models.factory import build_encoder
from declip.segmenter import Segmenter
from measure import best_time, print_table

SIZE = (480, 640)
REPEATS = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=20, help="of a question")
    parser.add_argument("--models", nargs="+", default=["nano", "zero-shot", "catseg"])
    args = parser.parse_args()
    torch.manual_seed(0)
    names = [first_synonym(name) for name in load_class_list("ade20k_150")]
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    rows = []
    for title in args.models:
        segmenter = make(title)
        rows.append([title, *ask(segmenter, image, names, args.classes)])
    headers = ["model", "first s", "again, other words s", "faster", "each new name s"]
    print_table(f"{args.classes} classes, image of {SIZE[1]}x{SIZE[0]}", headers, rows)


def make(title: str) -> Segmenter:
    """A segmenter: nano, EVA02-B-16 zero-shot, or CAT-Seg of ViT-B size."""
    if title == "nano":
        return load_segmenter("nano", device="cpu")
    if title == "zero-shot":
        return EncoderSegmenter(build_encoder("EVA02-B-16", "random"))
    options = ["MODEL.ENCODER.WEIGHTS", "random", "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "('nano_train',)"]
    # one prompt a name: how many there are is not what is measured
    model = build_model(get_catseg_cfg("declip_catseg_vitb.yaml", [*options, "MODEL.TEXT.PROMPTS", "single"]))
    return CATSegSegmenter(model)


def ask(segmenter: Segmenter, image: np.ndarray, names: list[str], count: int) -> tuple[float, float, str, float]:
    """Seconds of the first question and of a later one, their ratio, and seconds that a name costs once."""
    one, other = names[:count], names[count // 2 : count // 2 + count]
    new = names[-1:]
    name_time, _ = best_time(lambda: segmenter.embed(new), 1)
    segmenter.embed(one + [name for name in other if name not in one])
    first, _ = best_time(lambda: segmenter.segment(image, one), REPEATS)
    photo = segmenter.encode(image)
    again, _ = best_time(lambda: segmenter.segment(photo, other), REPEATS)
    return first, again, f"{first / again:.1f}x", name_time


if __name__ == "__main__":
    main()
