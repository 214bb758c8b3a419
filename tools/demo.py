#!/usr/bin/env python3
r"""Segment your own images into classes you name.

tools/demo.py --model nano --images datasets/nano/val/images --classes grass sky "red ball" "blue star"
tools/demo.py --model output/declip_catseg_vitb --images street.jpg --classes car person "traffic light" road sky
tools/demo.py --model ViT-B-16 --weights openai --context qk --images photos --classes my_classes.txt
tools/demo.py --images street.mp4 --classes car "tv; monitor" --background 0.4 --write overlays labels segments

A model is the output directory of a training or one of its checkpoints (CAT-Seg), weights of an encoder that this
project wrote, or the name of an encoder (dense zero-shot segmentation).

--write chooses among
  pictures   image, classes and legend, in the folder itself
  overlays   the image under its classes, overlays/x.png
  labels     the index of each pixel's class, labels/x.png (8 bits, or 16)
  segments   COCO's results format with run-length encoded masks, segments.json
Of a video only overlays are written, overlays/x.mp4 (extra [video]).

Files are called as their images (x.jpg: x.png; where several are called so, x_2.png, ...). No file that is there is
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
KINDS = ("pictures", "overlays", "labels", "segments")


def main(args: argparse.Namespace) -> None:
    """Write what is asked for of every image."""
    from tqdm import tqdm

    import declip
    from declip.coco_results import CocoResults
    from declip.data.class_lists import classes_of
    from declip.data.video import SUFFIXES

    plan = plan_files(args.images, args.output, args.overwrite, args.write)
    segmenter = declip.load_segmenter(args.model, args.weights, context=args.context, device=args.device)
    segmenter.set_classes(classes_of(args.classes))
    unreadable, segments = [], CocoResults(segmenter.class_names)
    for image, files in tqdm(plan.items(), unit="image"):
        try:
            if image.suffix.lower() in SUFFIXES:
                segment_video(segmenter, image, files["overlays"], args.background)
                continue
            photo = segmenter.encode(image)
        except DataError as error:
            unreadable.append(str(error))
            continue
        result = segmenter.segment(photo, background=args.background)
        write_files(result, files)
        if "segments" in args.write:
            segments.add(image, result)
    if "segments" in args.write:
        segments.save(args.output / "segments.json")
    for image, files in plan.items():
        for file in files.values():
            if file.stem != image.stem and file.exists():
                print(f"{image} is in {file}".encode(errors="replace").decode())
    print(f"{len(plan) - len(unreadable)} images segmented, see {args.output}")
    if unreadable:
        raise DataError(f"{len(unreadable)} of {len(plan)} images are left out: {'; '.join(unreadable[:SHOWN])}")


def write_files(result, files: dict[str, Path]) -> None:
    """Write a segmentation as each kind of file that is asked for."""
    from d2host.engine.atomic import replacing

    makers = {"overlays": result.overlay, "labels": result.label_image}
    for kind, file in files.items():
        if kind == "pictures":
            result.save(file)
            continue
        with replacing(file) as temporary:
            makers[kind]().save(temporary)


def segment_video(segmenter, video: Path, target: Path, background: float | str | None) -> None:
    """Write a video of the overlays of another's frames."""
    import numpy as np

    from declip.data.video import opened_video, write_video

    with opened_video(video) as (frames, rate):
        overlays = (segmenter.segment(frame, background=background).overlay() for frame in frames)
        write_video(map(np.asarray, overlays), target, rate)


def plan_files(paths: list[Path], output: Path, overwrite: bool, kinds: list[str]) -> dict[Path, dict[str, Path]]:
    """Each image and video among ``paths`` and in the folders among them, with the files to write, by kind.

    Names are distinct. What an earlier call wrote, in a folder below one of ``paths``, is no image.

    Raises:
        DataError: a path does not exist, there is no image, or a file would take the place of an image or, unless
            ``overwrite``, of any file.
    """
    from declip.data.listing import IMAGE_SUFFIXES, find_files
    from declip.data.video import SUFFIXES

    images: dict[Path, Path] = {}
    folders = {"pictures": output, "overlays": output / "overlays", "labels": output / "labels"}
    for path in paths:
        if not os.path.exists(path):
            raise DataError(f"{path} does not exist: give image files or folders that hold them")
        same = os.path.realpath(output) == os.path.realpath(path)
        below = [folders["overlays"], folders["labels"]] if same else [output]
        for file in find_files(path, IMAGE_SUFFIXES | SUFFIXES, below) if path.is_dir() else [path]:
            images.setdefault(Path(os.path.abspath(file)), file)
    if not images:
        known = ", ".join(sorted(IMAGE_SUFFIXES | SUFFIXES))
        raise DataError(f"no image in {', '.join(map(str, paths))}: known are {known}")
    plan: dict[Path, dict[str, Path]] = {}
    taken, namesakes = set(), Counter()
    for image in images.values():
        is_video = image.suffix.lower() in SUFFIXES
        suffix, name = ".mp4" if is_video else ".png", image.stem
        while name.casefold() in taken:  # without case, as some file systems have names
            namesakes[image.stem.casefold()] += 1
            name = f"{image.stem}_{namesakes[image.stem.casefold()] + 1}"
        taken.add(name.casefold())
        wanted = ["overlays"] if is_video else [kind for kind in kinds if kind in folders]
        plan[image] = {kind: folders[kind] / f"{name}{suffix}" for kind in wanted}
    check_free(plan, overwrite, [output / "segments.json"] if "segments" in kinds else [])
    return plan


def check_free(plan: dict[Path, dict[str, Path]], overwrite: bool, others: list[Path]) -> None:
    """Refuse files of a plan, and others, that would take the place of an image or, unless ``overwrite``, of any."""
    originals = set(map(os.path.realpath, plan))
    for file in [*(file for files in plan.values() for file in files.values()), *others]:
        if os.path.realpath(file) in originals:
            raise DataError(f"a picture would take the place of {file}: give another --output")
        if not overwrite and os.path.lexists(file):
            raise DataError(f"{file} exists: give another --output, or --overwrite to replace earlier pictures")


def probability_or_words(text: str) -> float | str:
    """The kind of ``--background``."""
    try:
        return float(text)
    except ValueError:
        return text


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="nano", help="output directory, checkpoint, encoder weights, or encoder name")
    add("--weights", help="of an encoder by name: a file, an open_clip tag, or a plug-in's name")
    kinds = [kind.value for kind in ContextType]
    add("--context", choices=kinds, help="how an encoder's last block attends (default: as its weights say)")
    paths = "images, videos, or folders of them"
    add("--images", type=arguments.existing_path, nargs="+", required=True, help=paths)
    add("--classes", nargs="+", required=True, help="class names ('tv; monitor': synonyms), or one .txt file")
    background = "what is 'other': a probability that its best class stays below, or words that fit it better"
    add("--background", type=probability_or_words, help=background)
    add("--write", choices=KINDS, nargs="+", default=["pictures"], help="kinds of files (default: pictures)")
    add("--output", type=arguments.output_folder, default=Path("output/demo"), help="folder for the pictures")
    add("--overwrite", action="store_true", help="replace pictures that are there")
    add("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
