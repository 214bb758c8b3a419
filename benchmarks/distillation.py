#!/usr/bin/env python3
"""A distillation step and the context loss, against plain formulations, each case in a process of its own.

The step: EVA02-B-16 at 560 px with 9 crops and DINOv2-B as teacher, batch 1, random weights, on a photo of 640×480
pixels. The baseline is the same models in float32 with timm's own blocks, on views padded to squares as the authors'
code has them, with whole N×N matrices: correlation volumes by autograd, and attention maps. A square image, which
needs no padding, is the worst case for ours; it costs the baseline the same. The context loss alone: N = 4,096 tokens,
forward and backward.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from d2host.engine.precision import Precision
from declip import build_encoder
from declip.data.image_list import ImageRecord
from declip.distill.dataset import DistillationDataset
from declip.distill.step import Distillation
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.views import DistillationViews, ViewSizes
from declip.losses import ContentLoss, ContextLoss, StudentFeature, TermLoss
from declip.models.features import DenseFeatures
from declip.models.towers import EvaTower
from declip.models.towers.base import Tokens
from declip.teachers.clip import ClipTeacher
from declip.teachers.foundation import FoundationTeacher
from declip.teachers.targets import Features
from limit import share_of_limit
from measure import best_time, in_new_process, peak_memory, print_table

SIDE, TOKENS, CHANNELS, CROPS, IMAGES = 560, 4096, 768, 9, 20
PHOTO, SQUARE = (480, 640), (640, 640)


class PlainContextLoss(ContextLoss):
    """Eq. 8-9 with every matrix whole."""

    def forward(self, features: DenseFeatures, target: Features) -> TermLoss:
        """The loss of the context feature."""
        volumes = []
        for tokens in (*features.context, rearrange(target.map, "b c h w -> b (h w) c")):
            unit = F.normalize(tokens, dim=-1)
            volumes.append(unit @ unit.mT)
        return TermLoss((volumes[-1] - torch.stack(volumes[:-1]).mean(dim=0)).norm(dim=-1).mean())


class PlainTower(EvaTower):
    """EVA-02 by timm's own blocks, every token of them."""

    def run_block(self, index: int, tokens: Tokens, count: int | None = None) -> Tokens:
        """Block ``index``."""
        return tokens._replace(x=self.blocks[index](tokens.x, rope=tokens.rope))


def padded(sample: dict, patch_size: int, foundation_patch: int) -> dict:
    """Views padded to squares."""
    sides = {"student": SIDE, "foundation": SIDE * foundation_patch // patch_size}
    squares = {
        key: F.pad(sample[key], (0, side - sample[key].shape[2], 0, side - sample[key].shape[1]))
        for key, side in sides.items()
    }
    return {**sample, **squares}


def step(
    device: str, plain: bool, precision: Precision, recompute: bool = False, size: tuple[int, int] = PHOTO
) -> dict:
    """One optimizer step of the published ViT-B recipe; ``plain`` materialises attention maps too."""
    torch.manual_seed(0)
    student = build_encoder("EVA02-B-16", "random")
    original, student.recompute = copy.deepcopy(student) if plain else frozen_copy(student), recompute
    choose_trainable(student, set(StudentFeature))
    foundation = FoundationTeacher("dinov2_vitb14", "random", precision)
    terms = {"content": ContentLoss(student.patch_size), "context": PlainContextLoss() if plain else ContextLoss()}
    teachers = {"clip": ClipTeacher(original, precision=precision), "foundation": foundation}
    model = Distillation(student, teachers, terms, {"content": 1.0, "context": 0.25}).to(device)
    views = DistillationViews(ViewSizes(SIDE, student.patch_size, foundation.patch_size, 224))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    sample = next(sample for sample in samples(views, image) if len(sample["boxes"]) == CROPS)
    if plain:
        sample = padded(sample, student.patch_size, foundation.patch_size)
        for encoder in (student, original):
            encoder.image_tower = PlainTower(encoder.clip.visual)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=not plain)

    def run() -> None:
        optimizer.zero_grad()
        with precision.autocast(device):
            losses = model([sample])
        sum(losses.values()).backward()
        optimizer.step()

    with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
        seconds, _ = best_time(run, 3)
        peak = peak_memory(device)
        return {"seconds": seconds, "peak": peak, "share": share_of_limit(run, seconds, precision, device)}


def samples(views: DistillationViews, image: Tensor) -> Iterator[dict]:
    """Views of one image with one crop grid after another."""
    yield from (views(image, np.random.default_rng(seed)) for seed in count())


def loss_alone(device: str, plain: bool) -> dict:
    """Forward and backward of the context loss with two student features; memory beyond the inputs."""
    torch.manual_seed(0)
    context = tuple(torch.randn(1, TOKENS, CHANNELS, device=device, requires_grad=True) for _ in range(2))
    teacher = rearrange(torch.randn(1, TOKENS, CHANNELS, device=device), "b (h w) c -> b c h w", h=64)
    loss = PlainContextLoss() if plain else ContextLoss()
    few = tuple(each[:, :64] for each in context)
    loss(DenseFeatures(None, few, {}), Features(teacher[:, :, :1])).value.backward()  # loads the kernels
    before = peak_memory(device)
    run = lambda: loss(DenseFeatures(None, context, {}), Features(teacher)).value.backward()  # noqa: E731
    seconds, _ = best_time(run, 3)
    return {"seconds": seconds, "peak": peak_memory(device) - before}


def views_alone() -> dict:
    """Decoding a 640×480 JPEG and making its views with 9 crops, in one thread: what one loading process does."""
    torch.set_num_threads(1)
    sizes = ViewSizes(SIDE, 16, 14, 224)
    views = DistillationViews(sizes, max_crops=CROPS)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480), Image.BICUBIC).save(file.name, quality=90)
        dataset = DistillationDataset([ImageRecord(file.name)] * IMAGES, views, seed=0)
        seconds, _ = best_time(lambda: [dataset[0, index] for index in range(IMAGES)], 2)
    return {"seconds": seconds / IMAGES, "peak": peak_memory()}


CASES = {
    "views of an image, one process": lambda device: views_alone(),
    "step, plain fp32": partial(step, plain=True, precision=Precision.FP32),
    "step, fp32": partial(step, plain=False, precision=Precision.FP32),
    "step, fp32, recomputing": partial(step, plain=False, precision=Precision.FP32, recompute=True),
    "step, bf16": partial(step, plain=False, precision=Precision.BF16),
    "step, bf16, recomputing": partial(step, plain=False, precision=Precision.BF16, recompute=True),
    "step on a square image, fp32": partial(step, plain=False, precision=Precision.FP32, size=SQUARE),
    "step on a square image, bf16": partial(step, plain=False, precision=Precision.BF16, size=SQUARE),
    "context loss, plain": partial(loss_alone, plain=True),
    "context loss": partial(loss_alone, plain=False),
}


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="this case alone, as JSON")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case](arguments.device)))
        return
    results = {case: in_new_process(__file__, "--case", case, "--device", arguments.device) for case in CASES}
    rows = []
    for case, result in results.items():
        if case == "views of an image, one process":
            rows.append([case, result["seconds"], "", result["peak"], "", ""])
            continue
        base = results["step, plain fp32" if case.startswith("step") else "context loss, plain"]
        faster, memory = base["seconds"] / result["seconds"], result["peak"] / base["peak"]
        share = f"{result['share']:.0%}" if "share" in result else ""
        rows.append([case, result["seconds"], f"{faster:.2f}x", result["peak"], f"{memory:.0%}", share])
    headers = ["case", "seconds", "faster", "peak GiB", "memory", "of the limit"]
    print_table("Distillation", headers, rows, arguments.device)


if __name__ == "__main__":
    main()
