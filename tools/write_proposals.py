#!/usr/bin/env python3
"""Write region proposals of a trained F-ViT, whose crops distillation learns from (DATASETS.PROPOSALS).

tools/write_proposals.py --model output/fvit_ov_coco_vitb --images /data/coco/train2017 --output coco_proposals.npz
tools/train_declip.py --config-file distill_eva_vitb16.yaml DATASETS.IMAGES /data/coco/train2017 \
    DATASETS.PROPOSALS coco_proposals.npz

The detector's region proposal network knows no classes: of every image the boxes that it takes for an object with most
certainty are written, in parts of the image's sides (a hundred each of COCO's 118,287 images take 190 MB).
"""

import argparse

from d2host.engine import arguments
from d2host.engine.command import run_command


def main(args: argparse.Namespace) -> None:
    """Build the detector, and write what it proposes."""
    import fvit.modeling  # noqa: F401 (registers the meta-architecture)
    from d2host import build_model
    from d2host.engine.atomic import replacing
    from d2host.engine.checkpoint_file import load_weights
    from declip.data.detection.proposals import check_names, known_as, write_proposals
    from declip.data.image_sources import list_images
    from declip.data.root import dataset_root
    from fvit.config import get_fvit_cfg
    from fvit.propose import propose_regions

    weights = args.weights or args.model / "model_final.pth"
    options = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", args.device]
    images = list_images(str(args.images), str(args.image_root or ""), dataset_root())
    check_names([known_as(image.path) for image in images], f"the images of {args.images}")
    model = build_model(get_fvit_cfg(args.model / "config.yaml", options))
    load_weights(weights, model)
    with replacing(args.output) as temporary:
        number = write_proposals(temporary, propose_regions(model, images, args.most))
    print(f"{args.output}: proposals for {number} images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=arguments.existing_folder, help="a run's folder")
    parser.add_argument("--weights", type=arguments.existing_file, help="default: model_final.pth there")
    parser.add_argument("--images", required=True, help="a folder, a COCO .json, a .txt list or .tar shards")
    parser.add_argument("--image-root", type=arguments.existing_folder, help="where names in a list start")
    parser.add_argument("--output", required=True, type=arguments.output_file(".npz"), help="the .npz to write")
    parser.add_argument("--most", type=arguments.whole_number(1), default=100, help="boxes of an image (default: 100)")
    parser.add_argument("--device", type=arguments.device, default="cpu", help="such as cuda (default: cpu)")
    run_command(main, parser.parse_args())
