#!/usr/bin/env python3
"""The public CAT-Seg and DeCLIP beside ours: the same random weights and inputs, each in processes of its own.

    git clone https://github.com/cvlab-kaist/CAT-Seg
    git clone https://github.com/xiaomoguhz/DeCLIP
    benchmarks/peers.py --catseg CAT-Seg --declip DeCLIP --python ENVIRONMENT/bin/python

Nothing of either is part of this project, and no file of a checkout is touched. ``--python`` is an interpreter that has
what they import: Detectron2 for CAT-Seg, transformers (before 5) for DeCLIP. What today's libraries, or a machine
without a GPU, ask for beyond that stands at the top of ``peer_catseg.py`` and ``peer_declip.py``.

Ours writes the weights in the public formats, and loads CAT-Seg's from there. Whole inference is five views of an image
to labels of 512×683; scores are compared. Of the training steps, losses' gradients are compared.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg.checkpoint import load_model_weights, to_public, to_public_clip
from catseg.config import get_catseg_cfg
from catseg.modeling import CATSeg
from d2host import build_model
from d2host.engine.arguments import existing_folder, positive
from d2host.engine.precision import Precision
from declip import build_encoder
from declip.distill.step import Distillation
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.views import DistillationViews, ViewSizes
from declip.losses import ContentLoss, ContextLoss, StudentFeature
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher
from limit import share_of_limit
from measure import best_time, in_new_process, peak_memory, print_table

HERE = Path(__file__).parent
SIDE, CROPS, REPEATS = 560, 9, 2
STEP = "training step"
CATSEG = {"inference, 20 classes": "20", "inference, 150 classes": "150", STEP: "step"}  # the vocabulary's file
PHOTO, SQUARE = "distillation step, 480×640", "distillation step, 640×640"
DECLIP = {PHOTO: (480, 640), SQUARE: (640, 640)}
CASES = (*CATSEG, *DECLIP)


def catseg(vocabulary: Sequence[str]) -> CATSeg:
    """CAT-Seg on a random CLIP ViT-B, with norms and biases that are not neutral."""
    torch.manual_seed(0)
    options = ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "random", "MODEL.SEM_SEG_HEAD.POOLING_SIZE", "(2, 1)"]
    model = build_model(get_catseg_cfg("catseg_clip_vitb.yaml", options))
    for parameter in model.sem_seg_head.parameters():
        if parameter.dim() < 2:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.train_classes = model.vocabulary = tuple(vocabulary)
    return model


def distillation(precision: Precision) -> Distillation:
    """The published ViT-B recipe on random weights; of the projection, which EVA starts near zero, larger ones."""
    torch.manual_seed(0)
    student = build_encoder("EVA02-B-16", "random", "q", "none")
    torch.nn.init.normal_(student.clip.visual.trunk.head.weight, std=0.02)
    original = frozen_copy(student)
    choose_trainable(student, set(StudentFeature))
    teachers = {
        "clip": ClipTeacher(original, precision=precision),
        "foundation": FoundationTeacher("dinov2_vitb14", "random", precision),
    }
    terms = {"content": ContentLoss(student.patch_size), "context": ContextLoss()}
    return Distillation(student, teachers, terms, {"content": 1.0, "context": 0.25})


def write_catseg(folder: Path, batch: int, classes: int) -> None:
    """Weights in the public format, vocabularies, an image, and a batch with labels."""
    model = catseg(["thing"])
    torch.save({"model": to_public(model.state_dict())}, folder / "catseg.pth")
    for name in CATSEG.values():
        vocabulary = [f"thing number {index}" for index in range(classes if name == "step" else int(name))]
        (folder / f"{name}.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    images = torch.randint(0, 256, (batch, 3, 384, 384), dtype=torch.uint8)
    labels = torch.randint(0, classes, (batch, 24, 24)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    labels[:, :40] = model.ignore_label
    batch = [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]
    image = {"image": torch.randint(0, 256, (3, 640, 854), dtype=torch.uint8), "height": 512, "width": 683}
    torch.save({"image": image, "batch": batch}, folder / "catseg_inputs.pt")


def write_declip(folder: Path) -> None:
    """Weights under their public names, and views of 3×3 crops: raw, and normalised and padded to squares."""
    model = distillation(Precision.FP32)
    encoder, foundation = model.student, model.teachers["foundation"]
    torch.save(to_public_clip(encoder.clip.state_dict()), folder / "declip.pt")
    torch.save(foundation.model.state_dict(), folder / "foundation.pt")
    views = DistillationViews(ViewSizes(SIDE, encoder.patch_size, foundation.patch_size, 224))
    for size in DECLIP.values():
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        drawn = (views(image, np.random.default_rng(seed)) for seed in count())
        sample = next(sample for sample in drawn if len(sample["boxes"]) == CROPS)
        boxes = F.pad(sample["boxes"] / SIDE, (0, 1), value=1.0)  # the last column: a box, and no filling
        padded = (
            square(encoder.normalize(sample["student"][None].float()), SIDE),
            boxes[None],
            encoder.normalize(sample["crops"].float())[None],
            square(foundation.normalize(sample["foundation"][None].float()), SIDE * foundation.patch_size // 16),
        )
        torch.save({"ours": sample, "theirs": padded}, folder / f"{size[0]}.pt")


def square(images: Tensor, side: int) -> Tensor:
    """Images padded to squares on the right and below."""
    return F.pad(images, (0, side - images.shape[-1], 0, side - images.shape[-2]))


def segmentation_case(model: CATSeg, precision: Precision, folder: Path) -> dict:
    """Whole inference; scores go to ``ours.pt``."""
    sample = torch.load(folder / "catseg_inputs.pt", weights_only=True)["image"]
    with precision.autocast("cpu"):
        seconds, _ = best_time(lambda: model.predict_labels([sample]), REPEATS)
        peak = peak_memory()
        torch.save(model([sample])[0]["sem_seg"], folder / "ours.pt")
        share = share_of_limit(lambda: model.predict_labels([sample]), seconds, precision)
    return {"seconds": seconds, "peak": peak, "share": share}


def step_case(model: nn.Module, batch: list[dict], weight: nn.Parameter, precision: Precision, folder: Path) -> dict:
    """A training step; the gradient of ``weight`` goes to ``ours.pt``."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    gradients = []

    def step() -> None:
        optimizer.zero_grad()
        with precision.autocast("cpu"):
            losses = model(batch)
        sum(losses.values()).backward()
        gradients.append(weight.grad.clone())
        nn.utils.clip_grad_norm_(trained, 0.01)
        optimizer.step()

    seconds, _ = best_time(step, REPEATS)
    peak = peak_memory()
    torch.save(gradients[0], folder / "ours.pt")
    return {"seconds": seconds, "peak": peak, "share": share_of_limit(step, seconds, precision)}


def ours(case: str, precision: Precision, folder: Path) -> dict:
    """A case, measured in this process."""
    if case in DECLIP:
        model, sample = distillation(precision), torch.load(folder / f"{DECLIP[case][0]}.pt", weights_only=True)["ours"]
        weight = model.student.clip.visual.trunk.blocks[0].attn.q_proj.weight
        return step_case(model.train(), [sample], weight, precision, folder)
    model = catseg(json.loads((folder / f"{CATSEG[case]}.json").read_text(encoding="utf-8")))
    load_model_weights(folder / "catseg.pth", model)
    if case != STEP:
        return segmentation_case(model.eval(), precision, folder)
    batch = torch.load(folder / "catseg_inputs.pt", weights_only=True)["batch"]
    model.train()
    return step_case(model, batch, model.sem_seg_head.aggregator.embed.weight, precision, folder)


def compare(case: str, arguments: argparse.Namespace, folder: Path) -> list[list[object]]:
    """The rows of a case: theirs, ours, ours in bf16."""
    peer, checkout = ("peer_declip.py", arguments.declip) if case in DECLIP else ("peer_catseg.py", arguments.catseg)
    size = DECLIP[case][0] if case in DECLIP else CATSEG[case]
    packages = (checkout.resolve() / "src", checkout.resolve())
    train = ["--train"] * (case == STEP)
    theirs = in_new_process(HERE / peer, folder, size, *train, python=arguments.python, imports=packages)
    expected = torch.load(folder / "theirs.pt", weights_only=True)
    rows = [[case, "public, fp32", theirs["seconds"], "1.0x", theirs["peak"], "100%", "", ""]]
    for precision in (Precision.FP32, Precision.BF16):
        own = in_new_process(__file__, "--case", case, "--precision", precision.value, "--folder", folder)
        difference = (torch.load(folder / "ours.pt", weights_only=True).float() - expected).abs().max().item()
        if case == STEP or case in DECLIP:
            difference /= expected.abs().max().item()
        faster, memory = f"{theirs['seconds'] / own['seconds']:.1f}x", f"{own['peak'] / theirs['peak']:.0%}"
        apart = "" if case == PHOTO else f"{difference:.1g}"
        rows.append(
            [
                case,
                f"ours, {precision.value}",
                own["seconds"],
                faster,
                own["peak"],
                memory,
                f"{own['share']:.0%}",
                apart,
            ]
        )
    return rows


def main() -> None:
    """Measure and print; with ``--case``, measure one of ours in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catseg", type=existing_folder, help="a checkout of the public CAT-Seg")
    parser.add_argument("--declip", type=existing_folder, help="a checkout of the public DeCLIP")
    parser.add_argument("--python", default=sys.executable, help="interpreter with what they import (default: this)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="default: all of the given checkouts")
    parser.add_argument("--batch", type=positive, default=4, help="images of CAT-Seg's training step")
    parser.add_argument("--train-classes", type=positive, default=171, help="classes of CAT-Seg's training step")
    for option, kind in {"--case": str, "--precision": Precision, "--folder": Path}.items():
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(ours(arguments.case, arguments.precision, arguments.folder)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_catseg(folder, arguments.batch, arguments.train_classes)
        write_declip(folder)
        for case in arguments.cases:
            if arguments.declip if case in DECLIP else arguments.catseg:
                rows += compare(case, arguments, folder)
    headers = ["case", "code", "seconds", "faster", "peak GiB", "memory", "of the limit", "largest difference"]
    print_table("Beside the public code", headers, rows)


if __name__ == "__main__":
    main()
