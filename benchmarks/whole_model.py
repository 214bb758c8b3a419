#!/usr/bin/env python3
"""A whole CAT-Seg ViT-B at inference: encoder, four windows and the whole image, head, labels at full size.

The baseline is the same model, float32, with its aggregation by ``catseg.modeling.reference`` and all class scores
held at the size of the image. Class embeddings are computed beforehand in both. Weights are random: only time and
agreement mean something here.
"""

import argparse

import torch
from torch import Tensor

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.config import get_catseg_cfg
from catseg.modeling import CATSeg, reference
from catseg.modeling.inference import segment_scores
from d2host import build_model
from d2host.engine.precision import Precision
from limit import share_of_limit
from measure import best_time, print_table

HEIGHT, WIDTH = 512, 683
RUNS = {"cpu": 1, "cuda": 3}  # of what is timed once; a GPU loads kernels in the first


def build(vocabulary: list[str], device: str = "cpu") -> CATSeg:
    """The model of ``declip_catseg_vitb.yaml`` with random weights."""
    torch.manual_seed(0)
    options = ("MODEL.DEVICE", device, "MODEL.ENCODER.WEIGHTS", "random")
    model = build_model(get_catseg_cfg("declip_catseg_vitb.yaml", options)).eval()
    model.set_vocabulary(vocabulary)
    return model


def plain_labels(model: CATSeg, sample: dict) -> Tensor:
    """The labels of ``model`` by the plain formulation."""
    views = model.encoder.normalize(model.views.views(sample["image"].to(model.device).float()))
    features = model.encoder.encode_dense(views, model.blocks)
    earlier, later = (features.hidden[block] for block in model.blocks)
    head = model.sem_seg_head
    guidance = [head.upsample1(earlier), head.upsample2(later)]
    text = model.class_embeddings(model.encoder, model.vocabulary)
    logits = reference.aggregate(head.aggregator, features.content, text, guidance)
    size = (sample["height"], sample["width"])
    return segment_scores(model.views, logits, size, logits.shape[1]).argmax(dim=0)


def measure(num_classes: int, repeats: int, device: str) -> list[object]:
    """One row: classes, seconds of the three, ratios, shares of the limit, share of pixels labelled alike."""
    model = build([f"thing number {index}" for index in range(num_classes)], device)
    sample = {"image": torch.randint(0, 256, (3, 640, 854), dtype=torch.uint8), "height": HEIGHT, "width": WIDTH}
    model.class_embeddings(model.encoder, model.vocabulary)
    segment = lambda: model.predict_labels([sample])[0]["sem_seg"]  # noqa: E731
    fp32, ours = best_time(segment, repeats)
    shares = [share_of_limit(segment, fp32, Precision.FP32, device)]
    with torch.autocast(device, torch.bfloat16):
        bf16, _ = best_time(segment, repeats)
        shares.append(share_of_limit(segment, bf16, Precision.BF16, device))
    plain, expected = best_time(lambda: plain_labels(model, sample), RUNS[device])
    alike = (ours.cpu() == expected.cpu()).double().mean().item()
    return [
        num_classes,
        plain,
        fp32,
        bf16,
        f"{plain / fp32:.1f}x",
        f"{plain / bf16:.1f}x",
        *(f"{share:.0%}" for share in shares),
        f"{alike:.4%}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[20, 150])
    parser.add_argument("--repeats", type=int, default=3, help="runs of the fast paths; the best counts")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")
    arguments = parser.parse_args()
    headers = [
        "classes",
        "plain s",
        "fp32 s",
        "bf16 s",
        "fp32",
        "bf16",
        "fp32 of the limit",
        "bf16 of the limit",
        "fp32 pixels alike",
    ]
    with torch.no_grad():
        rows = [measure(num_classes, arguments.repeats, arguments.device) for num_classes in arguments.classes]
    print_table("Whole model, one image", headers, rows, arguments.device)


if __name__ == "__main__":
    main()
