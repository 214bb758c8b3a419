#!/usr/bin/env python3
r"""Segment your own images into classes you name.

tools/demo.py --model nano --images datasets/nano/val/images --classes grass sky "red ball" "blue star"
tools/demo.py --model output/declip_catseg_vitb --images street.jpg --classes car person "traffic light" road sky
tools/demo.py --model ViT-B-16 --weights openai --context qk --images photos --classes my_classes.txt

A model is the output directory of a training or one of its checkpoints (CAT-Seg), weights of an encoder that this
project wrote, or the name of an encoder (dense zero-shot segmentation).
"""

import argparse
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import DataError
from declip.models.contexts import ContextType


def main(args: argparse.Namespace) -> None:
    """Write one picture per image."""
    from tqdm import tqdm

    import declip
    from declip.data.class_lists import classes_of

    pictures = plan_pictures(args.images, args.output)
    segmenter = declip.load_segmenter(args.model, args.weights, context=args.context, device=args.device)
    segmenter.set_classes(classes_of(args.classes))
    for image, picture in tqdm(pictures.items(), unit="image"):
        segmenter.segment(image).save(picture)
    print(f"{len(pictures)} pictures in {args.output}")


def plan_pictures(paths: list[Path], output: Path) -> dict[Path, Path]:
    """Each image among ``paths`` and in the folders among them, with the picture to write; names are distinct.

    Raises:
        DataError: there is no image, or a picture would take the place of an image.
    """
    from declip.data.reading import IMAGE_SUFFIXES

    images: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        images += [file for file in inside if file.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(f"no image in {', '.join(map(str, paths))}: known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    pictures: dict[Path, Path] = {}
    taken: set[Path] = set()
    for image in dict.fromkeys(images):
        names = (f"{image.stem}{number}.png" for number in ("", *(f"_{count}" for count in range(2, len(images) + 2))))
        pictures[image] = next(output / name for name in names if output / name not in taken)
        taken.add(pictures[image])
    overwritten = {image.resolve() for image in images} & {picture.resolve() for picture in taken}
    if overwritten:
        raise DataError(f"a picture would take the place of {min(overwritten)}: give another --output")
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
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
