#!/usr/bin/env python3
"""Pictures that explain: what models attend to, what their features say, what data and trainings look like.

tools/visualize.py attention --image street.jpg --encoder ViT-B-16 openai --anchors 120,200 300,80 --layers 0 5 11
tools/visualize.py proxy-tokens --images photos --encoder ViT-B-16 openai --teacher dinov2_vitb14
tools/visualize.py correlation --image street.jpg --encoder EVA02-B-16 declip.safetensors --teacher dinov2_vitb14
tools/visualize.py segmentation --images street.jpg --classes car road sky --model ViT-B-16 openai --model output/run
tools/visualize.py segmentation --dataset voc_2012_test_sem_seg --model output/catseg --model output/declip_catseg
tools/visualize.py dataset --dataset nano_train --count 6
tools/visualize.py training --run CLIP output/catseg --run DeCLIP output/declip_catseg --curves total_loss lr
tools/visualize.py resolution --results CLIP output/regions_clip --results DeCLIP output/regions_declip

Every subcommand has --help, and writes one picture, a PNG, JPEG, PDF or SVG by the ending of --output. docs/pictures.md
shows one of each.
"""

import argparse
from pathlib import Path

from d2host.engine import arguments
from d2host.engine.command import run_command
from d2host.engine.errors import ConfigError, DataError

PICTURES = (".png", ".jpg", ".pdf", ".svg")


def main(args: argparse.Namespace) -> None:
    """Draw one picture."""
    from declip.evaluation.visualizer import save_figure

    save_figure(args.draw(args), args.output, args.dpi)
    print(f"the picture is in {args.output}")


def attention(args: argparse.Namespace):
    """Where tokens attend, block by block."""
    from declip.visualization import attention_maps, draw_attention, shares_table
    from declip.visualization.inputs import spread_anchors

    anchors = args.anchors or spread_anchors(args.image)
    found = {
        title: attention_maps(model, args.image, anchors, args.layers, args.patches)
        for title, model in models(args).items()
    }
    print(shares_table({title: each.shares for title, each in found.items()}))
    return draw_attention(found)


def proxy_tokens(args: argparse.Namespace):
    """How much of all attention the most attended patches get, over many images."""
    from tqdm import tqdm

    from declip.data.datasets import dataset_records
    from declip.visualization import draw_proxy_tokens, proxy_shares, shares_table

    records = dataset_records(args.dataset) if args.dataset else ()
    images = [record["file_name"] for record in records] or image_files(args.images)
    images = images[: args.max_images or None]
    found = {
        title: proxy_shares(model, tqdm(images, title, unit="image"), args.patches, args.fraction)
        for title, model in models(args).items()
    }
    print(shares_table(found))
    return draw_proxy_tokens(found)


def correlation(args: argparse.Namespace):
    """How alike features are to those at some places, by several models."""
    from declip.visualization import correlation

    return correlation(args.image, models(args), args.anchors, args.patches)


def segmentation(args: argparse.Namespace):
    """What several methods say about images, beside the ground truth where there is one."""
    from declip import load_segmenter
    from declip.data.class_lists import classes_of
    from declip.data.datasets import class_names
    from declip.visualization import segmentation, segmentation_of_dataset

    if args.dataset is None and not args.classes:
        raise ConfigError("--images have no classes of their own: give --classes")
    names = classes_of(args.classes) if args.classes else class_names(args.dataset)
    if args.dataset and len(names) != len(class_names(args.dataset)):
        raise ConfigError(f"--classes are {len(names)}, '{args.dataset}' has {len(class_names(args.dataset))}")
    methods = {}
    for model, *rest in args.model:
        weights, context = (*rest, None, None)[:2]
        keep(methods, title_of(model, rest), load_segmenter(model, weights, context=context, device=args.device))
    if args.dataset:
        return segmentation_of_dataset(args.dataset, methods, names, args.count)
    return segmentation(image_files(args.images), methods, names)


def dataset(args: argparse.Namespace):
    """A registered dataset, its images and labels side by side, as training would read them."""
    from declip.visualization import dataset

    return dataset(args.dataset, args.count)


def training(args: argparse.Namespace):
    """Curves of trainings, several runs laid over each other."""
    from declip.visualization import training

    runs: dict[str, str] = {}
    for title, folder in args.run:
        keep(runs, title, folder)
    return training(runs, args.curves, args.smooth, args.log_scale)


def resolution(args: argparse.Namespace):
    """Accuracy over the size of the input, from results of evaluations."""
    from declip.visualization import resolution

    results = {}
    for title, *folders in args.results:
        if not folders:
            raise ConfigError(f"--results {title} names no folder: give a title, then a folder, or SIDE=FOLDER of each")
        sides: dict[int | None, str] = {}
        for side, folder in map(_side_and_folder, folders):
            if side in sides:
                raise ConfigError(f"--results {title}: {sides[side]} and {folder} are of one size: give SIDE=FOLDER")
            sides[side] = folder
        keep(results, title, sides)
    return resolution(results, args.metrics)


def models(args: argparse.Namespace) -> dict:
    """The encoders and teachers of a command line by their titles, on their device."""
    from d2host.engine.setup import resolve_device
    from declip import build_encoder
    from declip.teachers.foundation import FoundationTeacher

    device, found = resolve_device(args.device), {}
    for name, *rest in args.encoder:
        weights, context = (*rest, None, None)[:2]
        keep(found, title_of(name, rest), build_encoder(name, weights, context).to(device))
    for name, *rest in args.teacher:
        keep(found, title_of(name, rest), FoundationTeacher(name, *rest[:1]).to(device))
    if not found:
        raise ConfigError("no model is named: give --encoder NAME WEIGHTS, or --teacher NAME, as often as needed")
    return found


def image_files(paths: list[Path]) -> list[Path]:
    """Image files, and those in folders."""
    from declip.data.listing import find_files

    images = [file for path in paths for file in (find_files(path) if path.is_dir() else [path])]
    if not images:
        raise DataError(f"no image in {', '.join(map(str, paths))}: give image files, or folders that hold them")
    return images


def title_of(name: str, rest: list[str]) -> str:
    """The name of a model, then its weights and context; of a path its last part."""
    return ", ".join(Path(each).name or each for each in (name, *rest))


def keep(found: dict, title: str, value) -> None:
    """Keep what is drawn by its title, of which there is one."""
    if title in found:
        raise DataError(f"'{title}' is drawn twice: give each once, or another name")
    found[title] = value


def _side_and_folder(text: str) -> tuple[int | None, str]:
    side, equals, folder = text.partition("=")
    return (int(side), folder) if equals and side.isdecimal() and len(side) < 6 else (None, text)


def place(text: str) -> tuple[float, float]:
    """The kind of a place in an image, as ``120,200``."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no place: give x,y in pixels, as 120,200") from None
    return x, y


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subcommands = parser.add_subparsers(dest="picture", required=True, metavar="PICTURE")
    made = {}
    for draw in (attention, proxy_tokens, correlation, segmentation, dataset, training, resolution):
        name = draw.__name__.replace("_", "-")
        made[name] = one = subcommands.add_parser(name, help=draw.__doc__, description=draw.__doc__)
        one.set_defaults(draw=draw)
        output = {"type": arguments.output_file(*PICTURES), "default": Path(f"output/{name}.png")}
        one.add_argument("--output", **output, help="the picture (default: %(default)s)")
        dpi = {"type": arguments.whole_number(30, 600), "default": 130}
        one.add_argument("--dpi", **dpi, help="dots per inch (default: %(default)s)")
    for name in ("attention", "correlation"):
        made[name].add_argument("--image", type=arguments.existing_file, required=True)
        anchors = {"type": place, "nargs": "+", "metavar": "X,Y"}
        made[name].add_argument("--anchors", **anchors, help="places in pixels of the image (default: three)")
    for name in ("attention", "proxy-tokens", "correlation"):
        add = made[name].add_argument
        repeated = {"action": "append", "nargs": "+", "default": []}
        add("--encoder", **repeated, metavar=("NAME", "WEIGHTS"), help="and its context, as often as wanted")
        add("--teacher", **repeated, metavar=("NAME", "WEIGHTS"), help="a vision foundation model; weights may be left")
        add("--patches", type=arguments.positive, help="along the longer side (default: each model's own)")
    layers = {"type": arguments.whole_number(-1000, 1000), "nargs": "+"}
    made["attention"].add_argument("--layers", **layers, help="blocks, from 0, or from -1 backwards (default: six)")
    made["proxy-tokens"].add_argument("--fraction", type=arguments.number(0, 1, above=True), default=0.02)
    made["proxy-tokens"].add_argument("--max-images", type=arguments.count, default=0, help="the first (0: all)")
    for name in ("proxy-tokens", "segmentation"):
        either = made[name].add_mutually_exclusive_group(required=True)
        either.add_argument("--images", type=arguments.existing_path, nargs="+", help="image files, or folders of them")
        either.add_argument("--dataset", help="name of a registered dataset")
    add = made["segmentation"].add_argument
    model = {"action": "append", "nargs": "+", "required": True, "metavar": ("MODEL", "WEIGHTS")}
    add("--model", **model, help="output directory, checkpoint, or encoder (weights, context); as often as wanted")
    add("--classes", nargs="+", help="class names, or one .txt file with one a line (default: those of the dataset)")
    made["dataset"].add_argument("--dataset", required=True, help="name of a registered dataset")
    for name, count in (("segmentation", 4), ("dataset", 6)):
        count = {"type": arguments.positive, "default": count, "help": "images, spread evenly over the dataset"}
        made[name].add_argument("--count", **count)
    for name in ("attention", "proxy-tokens", "correlation", "segmentation"):
        made[name].add_argument("--device", type=arguments.device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add = made["training"].add_argument
    add("--run", action="append", nargs=2, required=True, metavar=("TITLE", "FOLDER"), help="as often as wanted")
    add("--curves", nargs="+", help="names of what metrics.json holds (default: the losses)")
    add("--smooth", type=arguments.positive, default=1, help="values that each point is the mean of")
    add("--log-scale", action="store_true")
    add = made["resolution"].add_argument
    results = {"action": "append", "nargs": "+", "required": True, "metavar": ("TITLE", "FOLDER")}
    add("--results", **results, help="of an evaluation; SIDE=FOLDER of each where results do not say the size")
    add("--metrics", nargs="+", help="names, such as things_mAcc (default: mean accuracies, or mIoU)")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, parse_arguments())
