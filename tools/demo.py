#!/usr/bin/env python3
r"""Segment your own images into classes you name.

tools/demo.py --model nano --images datasets/nano/val/images --classes grass sky "red ball" "blue star"
tools/demo.py --model output/declip_catseg_vitb --images street.jpg --classes car person "traffic light" road sky
tools/demo.py --model ViT-B-16 --weights openai --context qk --images photos --classes my_classes.txt

A model is the output directory of a training or one of its checkpoints (CAT-Seg), weights of an encoder that this
project wrote, or the name of an encoder (dense zero-shot segmentation).

Pictures are called as their images (x.jpg: x.png; where several are called so, x_2.png, ...). No file that is there is
written over, unless by --overwrite, and no image ever. An image that cannot be read is named and left out: the others
get their pictures, and the status is 2.
"""

import argparse
import os
from collections import Counter
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import DataError
from declip.contexts import ContextType

SHOWN = 5  # unreadable images that the last sentence names


def main(args: argparse.Namespace) -> None:
    """Write one picture per image."""
    from tqdm import tqdm

    import declip
    from declip.data.class_lists import classes_of
    from declip.segmentation import as_rgb

    pictures = plan_pictures(args.images, args.output, args.overwrite)
    segmenter = declip.load_segmenter(args.model, args.weights, context=args.context, device=args.device)
    segmenter.set_classes(classes_of(args.classes))
    unreadable = []
    for image, picture in tqdm(pictures.items(), unit="image"):
        try:
            pixels = as_rgb(image)
        except DataError as error:
            unreadable.append(str(error))
            continue
        segmenter.segment(pixels).save(picture)
    for image, picture in pictures.items():
        if picture.stem != image.stem and picture.exists():
            print(f"{image} is in {picture}".encode(errors="replace").decode())
    print(f"{len(pictures) - len(unreadable)} pictures in {args.output}")
    if unreadable:
        raise DataError(f"{len(unreadable)} of {len(pictures)} images are left out: {'; '.join(unreadable[:SHOWN])}")


def plan_pictures(paths: list[Path], output: Path, overwrite: bool = False) -> dict[Path, Path]:
    """Each image among ``paths`` and in the folders among them, with the picture to write; names are distinct.

    Pictures of an earlier call, in a folder below one of ``paths``, are no images.

    Raises:
        DataError: a path does not exist, there is no image, or a picture would take the place of an image or, unless
            ``overwrite``, of any file.
    """
    from declip.data.listing import IMAGE_SUFFIXES, find_files

    images: dict[Path, Path] = {}
    for path in paths:
        if not os.path.exists(path):
            raise DataError(f"{path} does not exist: give image files or folders that hold them")
        below = [output] if os.path.realpath(output) != os.path.realpath(path) else []
        for file in find_files(path, without=below) if path.is_dir() else [path]:
            images.setdefault(Path(os.path.abspath(file)), file)
    if not images:
        raise DataError(f"no image in {', '.join(map(str, paths))}: known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    pictures: dict[Path, Path] = {}
    originals, taken, namesakes = set(map(os.path.realpath, images)), set(), Counter()
    for image in images.values():
        name = f"{image.stem}.png"
        while name.casefold() in taken:  # without case, as some file systems have names
            namesakes[image.stem.casefold()] += 1
            name = f"{image.stem}_{namesakes[image.stem.casefold()] + 1}.png"
        taken.add(name.casefold())
        pictures[image] = output / name
    for picture in pictures.values():
        if os.path.realpath(picture) in originals:
            raise DataError(f"a picture would take the place of {picture}: give another --output")
        if not overwrite and os.path.lexists(picture):
            raise DataError(f"{picture} exists: give another --output, or --overwrite to replace earlier pictures")
    return pictures


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="output directory, checkpoint, encoder weights, or encoder name")
    add("--weights", help="of an encoder by name: a file, an open_clip tag, or a plug-in's name")
    kinds = [kind.value for kind in ContextType]
    add("--context", choices=kinds, help="how an encoder's last block attends (default: as its weights say)")
    add("--images", type=arguments.existing_path, nargs="+", required=True, help="image files, or folders of them")
    add("--classes", nargs="+", required=True, help="class names, or one .txt file with one a line")
    add("--output", type=arguments.output_folder, default=Path("output/demo"), help="folder for the pictures")
    add("--overwrite", action="store_true", help="replace pictures that are there")
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
