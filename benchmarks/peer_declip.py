"""The public DeCLIP's distillation step, measured by ``peers.py`` in an interpreter that has what it imports.

What is done for it, since it was written for a GPU and for ``torch.hub``'s download of DINOv2:

* the foundation model is timm's, with the weights in ``FOLDER/foundation.pt``, its final norm applied as DINOv2's own
  ``get_intermediate_layers`` does;
* where xformers is missing, which has no such attention for CPUs, torch's own fused attention takes its place.

The student attends by queries (``qq_vfm_distill``, as in the checkout's scripts). With queries and keys this snapshot
compares the correlations of each head with those of the foundation model, not those of all heads together.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measure import best_time, peak_memory

REPEATS, FOUNDATION = 2, "vit_base_patch14_reg4_dinov2"


def attention(q: Tensor, k: Tensor, v: Tensor, p: float, scale: float, attn_bias: None) -> Tensor:
    """xformers' attention of B×N×H×d tensors by torch's."""
    heads = (each.transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(*heads, attn_mask=attn_bias, dropout_p=p, scale=scale).transpose(1, 2)


def main() -> None:
    """Measure, print a line of JSON, and leave a gradient in ``theirs.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("height", type=int)
    arguments = parser.parse_args()
    folder = arguments.folder
    import open_clip
    from open_clip.eva_clip import eva_vit_model
    from training.declip import DeCLIP
    from training.utils import freeze_parameters

    if eva_vit_model.xops is None:
        eva_vit_model.xops = argparse.Namespace(memory_efficient_attention=attention)
    options = argparse.Namespace(
        model="EVA02-CLIP-B-16",
        mode="qq_vfm_distill",
        use_vfm="dinov2-B",
        loss_context_weight=0.25,
        loss_content_weight=1.0,
        precision="fp32",
        device="cpu",
        distributed=False,
    )
    student, teacher = (
        open_clip.create_model(options.model, "eva", device="cpu", cache_dir=str(folder / "declip.pt"))
        for _ in range(2)
    )
    teacher.requires_grad_(False)
    student.lock_image_tower(unlocked_groups=12)
    student = freeze_parameters(student, options).train()
    foundation = timm.create_model(FOUNDATION, dynamic_img_size=True).requires_grad_(False).eval()
    foundation.load_state_dict(torch.load(folder / "foundation.pt", weights_only=True))
    foundation.get_intermediate_layers = partial(foundation.get_intermediate_layers, norm=True)
    batch = torch.load(folder / f"{arguments.height}.pt", weights_only=True)["theirs"]
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer, gradients, method = torch.optim.AdamW(trained, lr=1e-5), [], DeCLIP()

    def step() -> None:
        optimizer.zero_grad()
        losses, _ = method(batch, student, teacher, foundation, options)
        sum(losses.values()).backward()
        gradients.append(student.visual.blocks[0].attn.q_proj.weight.grad.clone())
        nn.utils.clip_grad_norm_(trained, 0.01)
        optimizer.step()

    seconds, _ = best_time(step, REPEATS)
    torch.save(gradients[0], folder / "theirs.pt")
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))


if __name__ == "__main__":
    main()
