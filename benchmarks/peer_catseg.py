"""The public CAT-Seg, measured by ``peers.py`` in an interpreter that has Detectron2: ``CHECKOUT FOLDER VOCABULARY``.

What is done for it, since it was written for a GPU and for OpenAI's download of CLIP:

* ``clip.load`` gives a CLIP of the sizes and weights in ``FOLDER/catseg.pth``, by the checkout's own ``build_model``;
* without a GPU, ``Tensor.cuda`` leaves a tensor where it is;
* evaluation takes its unpooled class attention from the command line, as the checkout's ``eval.sh`` does.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from measure import best_time, peak_memory

CLIP = "sem_seg_head.predictor.clip_model."
REPEATS = 2


def openai_clip(public: dict) -> dict:
    """The CLIP in a public CAT-Seg state dict as OpenAI has it: projections joined, and the sizes that it stores."""
    state = {key.removeprefix(CLIP): tensor for key, tensor in public.items() if key.startswith(CLIP)}
    for key in [key for key in state if key.endswith("q_proj_weight")]:
        stem = key.removesuffix("q_proj_weight")
        state[f"{stem}in_proj_weight"] = torch.cat([state.pop(f"{stem}{which}_proj_weight") for which in "qkv"])
    sizes = ("input_resolution", "context_length", "vocab_size")
    return state | dict.fromkeys(sizes, torch.tensor(0))


def build(folder: Path, vocabulary: str, training: bool) -> nn.Module:
    """The checkout's ViT-B with the weights of the folder."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
    import cat_seg
    from cat_seg.config import add_cat_seg_config
    from cat_seg.third_party import clip, model_vpt
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.projects.deeplab import add_deeplab_config

    public = torch.load(folder / "catseg.pth", weights_only=True)["model"]
    clip.load = lambda *args, **kwargs: (model_vpt.build_model(openai_clip(public)).float(), None)
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_cat_seg_config(cfg)
    cfg.merge_from_file(str(Path(cat_seg.__file__).parents[1] / "configs" / "vitb_384.yaml"))
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = str(
        folder / f"{vocabulary}.json"
    )
    cfg.TEST.SLIDING_WINDOW = not training
    if not training:
        cfg.MODEL.SEM_SEG_HEAD.POOLING_SIZES = [1, 1]
    model = build_model(cfg).train(training)
    missing, unexpected = model.load_state_dict(public, strict=False)
    missing = [key for key in missing if not key.endswith(("attn_mask", "pixel_mean", "pixel_std"))]
    if missing or unexpected:
        sys.exit(f"weights do not fit the checkout: {missing[:3]} are missing, {unexpected[:3]} unexpected")
    return model


def main() -> None:
    """Measure, print a line of JSON, and leave scores or a gradient in ``theirs.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("vocabulary")
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()
    os.chdir(arguments.folder)
    model = build(arguments.folder, arguments.vocabulary, arguments.train)
    inputs = torch.load(arguments.folder / "catseg_inputs.pt", weights_only=True)
    if not arguments.train:

        def segment() -> Tensor:
            scores = model([inputs["image"]])[0]["sem_seg"]
            scores.argmax(dim=0)
            return scores

        with torch.no_grad():
            seconds, result = best_time(segment, REPEATS)
        peak = peak_memory()
    else:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer, gradients = torch.optim.AdamW(trained, lr=1e-5), []

        def step() -> None:
            optimizer.zero_grad()
            sum(model(inputs["batch"]).values()).backward()
            gradients.append(model.sem_seg_head.predictor.transformer.conv1.weight.grad.clone())
            nn.utils.clip_grad_norm_(trained, 0.01)
            optimizer.step()

        seconds, _ = best_time(step, REPEATS)
        peak, result = peak_memory(), gradients[0]
    torch.save(result.float().cpu(), arguments.folder / "theirs.pt")
    print(json.dumps({"seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
