#!/usr/bin/env python3
"""CAT-Seg's aggregator at inference: time against the plain formulation, same weights and inputs, one run.

Five crops of 384 px (a grid of 24×24), ViT-B sizes. The baseline is ``catseg.modeling.reference`` in float32.
"""

import argparse

import torch

from catseg.modeling import reference
from catseg.modeling.aggregator import Aggregator
from d2host.engine.precision import Precision
from limit import share_of_limit
from measure import best_time, print_table

CROPS, GRID, EMBED_DIM = 5, 24, 512
RUNS = {"cpu": 1, "cuda": 3}  # of what is timed once; a GPU loads kernels in the first


def measure(num_classes: int, repeats: int, device: str) -> list[object]:
    """One row: classes, seconds of the three, ratios, shares of the limit, largest differences."""
    torch.manual_seed(0)
    aggregator = Aggregator(embed_dim=EMBED_DIM).eval().to(device)
    for parameter in aggregator.parameters():
        if parameter.dim() < 2:
            torch.nn.init.normal_(parameter, std=0.1)
    inputs = (
        torch.randn(CROPS, EMBED_DIM, GRID, GRID, device=device),
        torch.randn(num_classes, 1, EMBED_DIM, device=device),
        [torch.randn(CROPS, 512 // scale, scale * GRID, scale * GRID, device=device) for scale in (2, 4)],
    )
    aggregate = lambda: aggregator(*inputs)  # noqa: E731
    fp32, ours = best_time(aggregate, repeats)
    shares = [share_of_limit(aggregate, fp32, Precision.FP32, device)]
    with torch.autocast(device, torch.bfloat16):
        bf16, ours_bf16 = best_time(aggregate, repeats)
        shares.append(share_of_limit(aggregate, bf16, Precision.BF16, device))
    plain, expected = best_time(lambda: reference.aggregate(aggregator, *inputs), RUNS[device])
    error, error_bf16 = ((logits - expected).abs().max().item() for logits in (ours, ours_bf16))
    ratios = (f"{plain / fp32:.1f}x", f"{plain / bf16:.1f}x", *(f"{share:.0%}" for share in shares))
    return [num_classes, plain, fp32, bf16, *ratios, error, error_bf16]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[20, 150])
    parser.add_argument("--repeats", type=int, default=3, help="runs of the fast paths; the best counts")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    arguments = parser.parse_args()
    headers = ["classes", "plain s", "fp32 s", "bf16 s", "fp32", "bf16", "fp32 of limit", "bf16 of limit"]
    headers += ["fp32 error", "bf16 error"]
    with torch.no_grad():
        rows = [measure(num_classes, arguments.repeats, arguments.device) for num_classes in arguments.classes]
    print_table(f"Aggregator, {CROPS} crops", headers, rows, arguments.device)


if __name__ == "__main__":
    main()
