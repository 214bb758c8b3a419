#!/usr/bin/env python3
"""Dense zero-shot segmentation against one window at a time, each case in a process of its own.

EVA02-B-16 with random weights, 171 classes, images of 480x640 pixels under DeCLIP's protocol (shorter side 448, window
336, stride 112: eight windows), labels at the images' size. The baseline encodes window after window, upsamples the
logits of all classes to the window's pixels, averages them on a canvas, resizes that and takes the softmax. Measured
are one context type, and four side by side (vanilla, maskclip, q, qk), as in Table 5.
"""

import argparse
import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from d2host.engine import Precision
from declip import DenseCLIP, build_encoder
from declip.evaluation.zero_shot import Protocol, Vocabulary, ZeroShotSegmenter
from declip.models.attention import ContextType
from limit import share_of_limit
from measure import best_time, in_new_process, peak_memory, print_table

CLASSES, THRESHOLD = 171, 0.2
ONE, FOUR = (ContextType.QK,), (ContextType.VANILLA, ContextType.MASKCLIP, ContextType.Q, ContextType.QK)
NAMES = ["background", *(f"class {index}" for index in range(1, CLASSES))]


@torch.no_grad()
def one_window_at_a_time(encoder: DenseCLIP, image: Tensor, text: Tensor, size: tuple[int, int], protocol: Protocol):
    """The protocol step by step; labels of ``size``."""
    pixels = encoder.normalize(image)
    height, width = pixels.shape[-2:]
    side = min(protocol.window or min(height, width), height, width)
    total, count = torch.zeros(CLASSES, height, width), torch.zeros(height, width)
    for top in [*range(0, height - side, protocol.stride), height - side]:
        for left in [*range(0, width - side, protocol.stride), width - side]:
            rows, columns = slice(top, top + side), slice(left, left + side)
            content = F.normalize(encoder.encode_dense(pixels[None, :, rows, columns]).content, dim=1)
            logits = torch.einsum("bchw,nc->bnhw", content, text)
            total[:, rows, columns] += F.interpolate(logits, size=(side, side), mode="bilinear")[0]
            count[rows, columns] += 1
    probabilities = (
        protocol.logit_scale * F.interpolate((total / count)[None], size=size, mode="bilinear")[0]
    ).softmax(0)
    best, labels = probabilities.max(dim=0)
    labels[best < protocol.threshold] = 0
    return labels


def measure(contexts: Sequence[ContextType], plain: bool, precision: Precision, side: int = 448) -> dict:
    """Seconds per image, peak memory and a sample of the labels."""
    torch.manual_seed(0)
    encoder = build_encoder("EVA02-B-16", "random").eval()
    text = F.normalize(torch.randn(CLASSES, encoder.embed_dim), dim=1)
    protocol = Protocol(threshold=THRESHOLD)
    images = torch.randint(0, 256, (2, 3, side, side * 4 // 3), dtype=torch.uint8)
    size = (480, 640) if side == 448 else images.shape[-2:]
    segmenter = ZeroShotSegmenter(encoder, text, Vocabulary.of(NAMES), protocol)
    batch = [{"image": image, "height": size[0], "width": size[1]} for image in images]

    def run() -> list[Tensor]:
        labels = []
        if plain:
            for encoder.context in contexts:
                labels += [one_window_at_a_time(encoder, image, text, size, protocol) for image in images]
            return labels
        with precision.autocast("cpu"):
            for outputs in segmenter.by_context(batch, contexts).values():
                labels += [output["sem_seg"] for output in outputs]
        return labels

    seconds, labels = best_time(run, 2)
    peak = peak_memory()
    return {
        "seconds": seconds / len(images),
        "peak": peak,
        "share": share_of_limit(run, seconds, precision),
        "labels": torch.stack(labels)[:, ::16, ::16].tolist(),
    }


CASES = {
    "plain fp32": lambda: measure(ONE, True, Precision.FP32),
    "fp32": lambda: measure(ONE, False, Precision.FP32),
    "bf16": lambda: measure(ONE, False, Precision.BF16),
    "four context types, plain fp32": lambda: measure(FOUR, True, Precision.FP32),
    "four context types, fp32": lambda: measure(FOUR, False, Precision.FP32),
    "four context types, bf16": lambda: measure(FOUR, False, Precision.BF16),
    "four context types, shorter side 1024, bf16": lambda: measure(FOUR, False, Precision.BF16, side=1024),
}


def main() -> None:
    """Measure and print; with ``--case``, measure one case in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, help="this case alone, as JSON")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))
        return
    results = {case: in_new_process(__file__, "--case", case) for case in CASES}
    rows = []
    for case, result in results.items():
        plain = results["four context types, plain fp32" if case.startswith("four") else "plain fp32"]
        labels, expected = torch.tensor(result["labels"]), torch.tensor(plain["labels"])
        comparable = labels.shape == expected.shape
        faster = f"{plain['seconds'] / result['seconds']:.1f}x" if comparable else ""
        alike = f"{(labels == expected).double().mean():.2%}" if comparable else ""
        rows.append([case, result["seconds"], faster, result["peak"], f"{result['share']:.0%}", alike])
    headers = ["case", "seconds per image", "faster", "peak GiB", "of the limit", "labels alike"]
    print_table("Dense zero-shot segmentation", headers, rows)


if __name__ == "__main__":
    main()
