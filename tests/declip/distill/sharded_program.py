"""Three steps of a distillation, its student sharded over all processes; for test_sharded.py: PROCESSES FOLDER."""

import sys
from pathlib import Path

from d2host.engine.distributed import launch

STEPS, IMAGES = 3, 4


def main(folder):
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    from d2host import comm
    from declip import build_encoder
    from declip.distill.step import Distillation
    from declip.distill.student import choose_trainable, frozen_copy
    from declip.distill.views import DistillationViews, ViewSizes
    from declip.losses import ContentLoss, StudentFeature
    from declip.teachers.clip import ClipTeacher

    torch.manual_seed(0)
    torch.set_num_threads(1)
    student = build_encoder("nano", "nano-clip")
    teacher = ClipTeacher(frozen_copy(student))
    choose_trainable(student, {StudentFeature.CONTENT})
    rank, world_size = comm.get_rank(), comm.get_world_size()
    whole = sum(parameter.numel() for parameter in student.clip.visual.parameters())
    if world_size > 1:
        for block in student.image_tower.blocks[:-1]:  # the last is taken apart: it belongs to the whole
            fully_shard(block)
        fully_shard(student, ignored_params={*student.text_parameters()})
    model = Distillation(student, {"clip": teacher}, {"content": ContentLoss(student.patch_size)}, {"content": 1.0})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    views, losses = DistillationViews(ViewSizes(64, student.patch_size, 0, 64), max_split=2), []
    for step in range(STEPS):
        rng = np.random.default_rng(step)
        photos = [torch.from_numpy(rng.integers(0, 256, (3, 48, 64), dtype=np.uint8)) for _ in range(IMAGES)]
        batch = [views(photo, rng) for photo in photos]
        share = IMAGES // world_size
        loss = model(batch[rank * share : (rank + 1) * share])["loss_content"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        if world_size > 1:
            dist.all_reduce(total)
        losses.append(total.item() / world_size)
    held = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in student.clip.visual.parameters())
    torch.save({"losses": losses, "held": held, "whole": whole}, folder / f"{world_size}-{rank}.pt")


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), (Path(sys.argv[2]),))
