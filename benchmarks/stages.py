#!/usr/bin/env python3
"""Where whole inference spends its time, stage by stage, and what share of the machine's limit each stage reaches.

The limit is the rate of large matrix products of the same precision and threads. A stage that stays below it either
runs products of smaller or narrower matrices, or spends its time elsewhere: the last column says how much is products.
CAT-Seg ViT-B with random weights, five views of an image; stages of the head are those of one view.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from catseg.modeling import CATSeg
from catseg.modeling.aggregator import cost_volume
from catseg.modeling.chunks import CACHED, Chunks, numbers_at_once
from catseg.modeling.fused import fused_form
from catseg.modeling.inference import segment_labels
from d2host.engine.precision import Precision
from limit import flops, matmul_rate, share_in_products
from measure import best_time, print_table
from whole_model import HEIGHT, WIDTH, build

LOW = 0.4  # of the limit


def stages(model: CATSeg, image: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What runs, by name, with everything before it done."""
    head, encoder, vocabulary = model.sem_seg_head, model.encoder, model.vocabulary
    aggregator, layer = head.aggregator, head.aggregator.layers[0]
    views = encoder.normalize(model.views.views(image))
    features = encoder.encode_dense(views, model.blocks)
    hidden = [features.hidden[block][:1] for block in model.blocks]
    text = model.class_embeddings(encoder, vocabulary)
    tokens = encoder.tokenize([f"A photo of a {name} in the scene" for name in vocabulary])
    content, grid = features.content[:1], tuple(features.content.shape[-2:])
    upsample = lambda: [head.upsample1(hidden[0]), head.upsample2(hidden[1])]  # noqa: E731
    project = lambda: [p(each).relu() for p, each in zip(aggregator.decoder_projections, upsample(), strict=True)]  # noqa: E731
    appearance = rearrange(aggregator.appearance_projection(content).relu(), "b g h w -> b (h w) g")
    names = aggregator.text_projection(text.mean(dim=1)).relu()
    cost = lambda: rearrange(cost_volume(content.float(), text.float()), "b t p h w -> (b t) p h w")  # noqa: E731
    embed = lambda: aggregator.embed(cost().contiguous(memory_format=torch.channels_last))  # noqa: E731
    x = rearrange(embed(), "(b t) c h w -> b t (h w) c", b=1).float()
    chunks = Chunks(numbers_at_once(x.device, CACHED) // x.shape[-1])
    spatial, category, decoder = (fused_form(each) for each in (layer.spatial, layer.category, aggregator.decoder))
    attend = partial(spatial, guidance=spatial.prepare(appearance, grid))
    mix = partial(category, guidance=category.prepare(names))
    decode = partial(decoder, guidance=decoder.prepare(tuple(project())), grid=grid)
    halves = Chunks(chunks.tokens // 2)
    logits = halves.run(decode, x, dim=1).expand(len(views), -1, -1, -1)
    return {
        "image tower, five views": lambda: encoder.encode_dense(views, model.blocks),
        "text tower, all classes": lambda: encoder.encode_text(tokens),
        "guidance": project,
        "cost volume and its embedding": embed,
        "spatial aggregation, a layer": lambda: chunks.run(attend, x, dim=1),
        "class aggregation, a layer": lambda: chunks.run(mix, x, dim=2),
        "decoder": lambda: halves.run(decode, x, dim=1),
        "labels of the image": lambda: segment_labels(model.views, logits, (HEIGHT, WIDTH)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each stage; the best counts")
    arguments = parser.parse_args()
    model = build([f"thing number {index}" for index in range(arguments.classes)])
    image, rows = torch.randint(0, 256, (3, 640, 854)).float(), []
    for precision in (Precision.FP32, Precision.BF16):
        with torch.no_grad(), precision.autocast("cpu"):
            for name, stage in stages(model, image).items():
                rate = matmul_rate(precision, seconds=0.2)
                seconds, _ = best_time(stage, arguments.repeats)
                work = flops(stage)
                share, products = work / seconds / rate, share_in_products(stage)
                mark = "below" if share < LOW else ""
                rows.append([precision.value, name, seconds, work / 1e9, f"{share:.0%}", mark, f"{products:.0%}"])
    headers = ["precision", "stage", "seconds", "GFLOP", "of the limit", f"{LOW:.0%}", "of the time in products"]
    print_table(f"Stages of inference, {arguments.classes} classes", headers, rows)


if __name__ == "__main__":
    main()
