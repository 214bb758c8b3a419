#!/usr/bin/env python3
"""What generalized DeCLIP adds to a step: divergences, region correlations, and completed affinities.

A step of the published ViT-B recipe (EVA02-B-16 at 560 px, 9 crops, DINOv2-B, batch 1, random weights, a photo of
640×480 pixels) with the losses of DeCLIP is the baseline. Attention maps come from a cache; making one, by a UNet and a
VAE of random weights, tiny or of the size of Stable Diffusion 2.1's, is a row of its own. And the completed affinity
alone, 4,096 tokens in blocks of 256 rows, beside the plain formulation with whole matrices.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from einops import rearrange

from d2host.engine.precision import Precision
from d2host.engine.tensor_cache import TensorCache
from declip import build_encoder
from declip.distill.step import Distillation
from declip.distill.student import choose_trainable, frozen_copy
from declip.distill.views import DistillationViews, ViewSizes
from declip.losses import ContentLoss, ContextLoss, KLDistance, RegionCorrelationLoss, StudentFeature
from declip.losses.correlation import correlation_distance
from declip.teachers.clip import ClipTeacher
from declip.teachers.completed import Completed
from declip.teachers.diffusion import DiffusionAttention
from declip.teachers.foundation import FoundationTeacher
from declip.teachers.targets import ProductAffinity
from measure import best_time, in_new_process, peak_memory, print_table

BF16 = Precision.BF16
STEPS = ("L2", "KL and RCC", "KL, RCC and SD-GSC, cached")
CROPS, TOKENS, CHANNELS, SIDE, PIXELS = 9, 4096, 768, 560, 16
UNETS: Mapping[str, dict] = {
    "tiny": {"block_out_channels": (32, 64), "cross_attention_dim": 32, "attention_head_dim": 2, "layers_per_block": 1},
    "SD 2.1": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024},
}


def diffusion(name: str) -> DiffusionAttention:
    """Random weights, eight pixels per latent cell."""
    torch.manual_seed(0)
    options = dict(UNETS[name])
    levels = len(options["block_out_channels"])
    if name == "SD 2.1":
        options |= {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
    down = ("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1)
    unet = UNet2DConditionModel(down_block_types=down, up_block_types=up, **options)
    widths = (128, 256, 512, 512) if name == "SD 2.1" else (32,) * 4
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",)}
    vae = AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, **blocks)
    vae.decoder = torch.nn.Identity()
    prompt = torch.zeros(1, 77, options["cross_attention_dim"])
    return DiffusionAttention(unet, DDIMScheduler(steps_offset=1), vae, prompt)


def steps(kinds: Sequence[str], repeats: int) -> dict:
    """Optimizer steps by turns, so that what else the machine does meets all alike; maps are in the cache by then."""
    torch.manual_seed(0)
    student = build_encoder("EVA02-B-16", "random")
    clip = ClipTeacher(frozen_copy(student), precision=BF16)
    choose_trainable(student, set(StudentFeature))
    foundation = FoundationTeacher("dinov2_vitb14", "random", BF16)
    image = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8)
    views = DistillationViews(ViewSizes(SIDE, student.patch_size, foundation.patch_size, 224, PIXELS))
    drawn = (views(image, np.random.default_rng(seed)) for seed in count())
    sample = next(sample for sample in drawn if len(sample["boxes"]) == CROPS)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def run(model: Distillation) -> None:
        optimizer.zero_grad()
        with BF16.autocast("cpu"):
            found = model([sample])
        sum(value for name, value in found.items() if name.startswith("loss")).backward()
        optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for kind in kinds:
            losses = {"content": ContentLoss(student.patch_size), "context": ContextLoss()}
            if kind != "L2":
                losses["context"] = ContextLoss(distance=KLDistance())
                losses["region_correlation"] = RegionCorrelationLoss(student.patch_size)
            teacher = foundation
            if kind == "KL, RCC and SD-GSC, cached":
                teacher = Completed(foundation, diffusion("tiny"), cache=TensorCache(folder, {}, 2**30, "--cache"))
            teachers = {"clip": clip, "foundation": teacher}
            models[kind] = Distillation(student, teachers, losses, dict.fromkeys(losses, 0.25))
            run(models[kind])
        seconds = dict.fromkeys(models, float("inf"))
        for _ in range(repeats):
            for kind, model in models.items():
                seconds[kind] = min(seconds[kind], best_time(partial(run, model), 1)[0])
    timed = {"seconds": seconds} if repeats else {}
    return {**timed, "peak": peak_memory()}


def making(name: str) -> dict:
    """One attention map of a photo of 26×35 tokens, in bf16."""
    torch.set_default_dtype(torch.bfloat16)  # made in it, so that memory is that of the weights
    model = diffusion(name)
    torch.set_default_dtype(torch.float32)
    image = torch.rand(3, 26 * model.pixels, 35 * model.pixels) * 255
    seconds, _ = best_time(partial(model, image, (26, 35), "photo"), 2)
    return {"seconds": seconds, "peak": peak_memory()}


def affinity_alone(kind: str) -> dict:
    """Forward and backward of the divergence from an affinity of 4,096 tokens; memory beyond the features.

    The map is read from a cache, and its 32 MiB count.
    """
    torch.manual_seed(0)
    student, teacher = torch.randn(TOKENS, CHANNELS, requires_grad=True), torch.randn(TOKENS, CHANNELS)
    grid = rearrange(teacher, "(h w) e -> 1 e h w", h=round(TOKENS**0.5))
    folder = tempfile.TemporaryDirectory()
    cache = TensorCache(folder.name, {}, 2**30, "--cache")
    cache.put("photo", {"attention": torch.full((TOKENS, TOKENS), 1 / TOKENS, dtype=torch.half)})
    completed = Completed(FoundationTeacher("nano-vfm", "random"), diffusion("tiny"), cache=cache)

    def run() -> None:
        units = F.normalize(teacher, dim=1)
        if kind == "plain":
            own = F.normalize(student, dim=1)
            q = ((own @ own.T) / 0.1).log_softmax(dim=1)
            attention = cache.get("photo", {"attention": (TOKENS, TOKENS)})["attention"]
            p = (units @ units.T @ attention.float() / 0.1).log_softmax(dim=1)
            F.kl_div(q, p, reduction="sum", log_target=True).backward()
        else:
            (affinity,) = completed(grid, grid, ["photo"]) if kind == "completed" else [ProductAffinity(units, units)]
            correlation_distance([student], affinity, KLDistance())[0].backward()

    small = torch.randn(64, CHANNELS, requires_grad=True)
    correlation_distance([small], torch.randn(64, CHANNELS), KLDistance())[0].backward()  # loads the kernels
    before = peak_memory()
    seconds, _ = best_time(run, 3)
    return {"seconds": seconds, "peak": peak_memory() - before}


CASES = {
    "steps": partial(steps, STEPS, 4),
    **{f"step, {kind}": partial(steps, (kind,), 0) for kind in STEPS},
    "KL of 4096 tokens, completed, plain": partial(affinity_alone, "plain"),
    "KL of 4096 tokens, not completed": partial(affinity_alone, "cosines"),
    "KL of 4096 tokens, completed": partial(affinity_alone, "completed"),
    "making a map, tiny UNet": partial(making, "tiny"),
    "making a map, size of SD 2.1": partial(making, "SD 2.1"),
}


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="this case alone, as JSON")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="those to measure")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))
        return
    results = {case: in_new_process(__file__, "--case", case) for case in arguments.cases}
    for kind, seconds in results.pop("steps", {"seconds": {}})["seconds"].items():
        results.setdefault(f"step, {kind}", {})["seconds"] = seconds
    bases = {"step": f"step, {STEPS[0]}", "KL": "KL of 4096 tokens, completed, plain"}
    rows = []
    for case, result in results.items():
        base = results.get(bases.get(case.split(",")[0].split()[0], ""), {})
        cells = [
            [result.get(key), f"{result[key] / base[key]:.0%}" if key in base and key in result else ""]
            for key in ("seconds", "peak")
        ]
        rows.append([case, *cells[0], *cells[1]])
    title = f"Generalized distillation, bf16, {torch.get_num_threads()} threads"
    print_table(title, ["case", "seconds", "of the first", "peak GiB", "of the first"], rows)


if __name__ == "__main__":
    main()
