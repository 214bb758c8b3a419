#!/usr/bin/env python3
r"""Segment your own images into classes you name.

tools/demo.py --config-file declip_catseg_vitb.yaml --images street.jpg --classes car person "traffic light" road sky \
    --weights model_final.pth
tools/demo.py --config-file declip_catseg_nano.yaml --images datasets/nano/val/images --classes my_classes.txt \
    --weights output/declip_catseg_nano/model_final.pth
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from d2host.engine.command import run_command
from d2host.engine.errors import DataError


def main(args: argparse.Namespace) -> None:
    """Write one picture per image."""
    import numpy as np
    import torch
    from tqdm import tqdm

    import catseg.modeling  # noqa: F401 (registers the meta-architecture)
    from catseg.checkpoint import load_model_weights
    from catseg.config import get_catseg_cfg
    from d2host import build_model
    from d2host.engine.setup import resolve_device
    from declip.data.class_lists import load_class_list
    from declip.data.mapper import TestMapper
    from declip.data.palette import class_palette
    from declip.data.reading import read_image
    from declip.evaluation.sem_seg_evaluator import to_labels
    from declip.evaluation.visualizer import Segmentation, draw

    classes = load_class_list(args.classes[0]) if args.classes[0].endswith(".txt") else args.classes
    files = find_images(args.images)
    cfg = get_catseg_cfg(args.config_file, ["MODEL.WEIGHTS", args.weights, *args.opts])
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    model = build_model(cfg).eval()
    load_model_weights(args.weights, model)
    model.set_vocabulary(classes)
    mapper = TestMapper(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    colors = np.asarray(class_palette(len(classes)), dtype=np.float32)
    args.output.mkdir(parents=True, exist_ok=True)
    for file in tqdm(files, unit="image"):
        with torch.no_grad():
            prediction = to_labels(model([mapper({"file_name": str(file)})])[0]["sem_seg"])
        picture = draw([Segmentation(read_image(file), {"prediction": prediction})], classes, colors)
        picture.savefig(args.output / f"{file.stem}.png", dpi=130)
    print(f"{len(files)} pictures in {args.output}")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among ``paths``, and the images in the folders among them.

    Raises:
        DataError: a path does not exist, or there is no image.
    """
    files = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist: give image files or folders that hold them")
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(f"no image in {', '.join(map(str, paths))}: known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="the config that the weights were trained with")
    parser.add_argument("--weights", required=True, help="checkpoint of the whole model")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--classes", nargs="+", required=True, help="class names, or one .txt file with one a line")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for the pictures")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config overrides")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
