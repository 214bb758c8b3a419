"""Twenty iterations of each training in float64, for test_processes.py: equal_program.py PROCESSES STEPS FOLDER."""

import sys
from pathlib import Path

from d2host.engine.distributed import launch

ITERATIONS = 20


def main(steps, folder):
    import torch

    torch.set_num_threads(1)
    torch.Tensor.float = torch.Tensor.double  # what trainings keep in full precision

    from catseg.config import get_catseg_cfg
    from catseg.trainer import SegmentationTrainer
    from d2host import build_model
    from declip.distill import DistillationTrainer, build_distillation, get_distillation_cfg
    from nanoworld.pretraining.config import get_pretraining_cfg
    from nanoworld.pretraining.trainer import PretrainingTrainer, build_pretraining

    shared = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "SEED", "1", "TEST.EVAL_PERIOD", "0"]
    shared += ["SOLVER.IMS_PER_BATCH", str(4 // steps), "SOLVER.ACCUMULATION_STEPS", str(steps)]
    shared += ["SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.CHECKPOINT_PERIOD", "0", "OUTPUT_DIR", str(folder / "run")]
    distill = [
        "DATASETS.IMAGES",
        "nano_val",
        "INPUT.STUDENT_SIZE",
        "64",
        "INPUT.MAX_SPLIT",
        "2",
        "SOLVER.WARMUP_ITERS",
        "1",
    ]
    pretrain = ["SOLVER.AMP.ENABLED", "False", "SOLVER.WARMUP_ITERS", "5"]
    pretrain += ["MODEL.PRETRAINING.PHOTO_SIZE", "32", "MODEL.PRETRAINING.VIEW_SIZE", "32"]
    catseg = get_catseg_cfg(folder.parent / "tiny.yaml", [*shared, "DATASETS.TEST", "()", "SOLVER.BASE_LR", "0.001"])
    trainings = {
        "catseg": (catseg, build_model, SegmentationTrainer),
        "distill": (
            get_distillation_cfg("distill_nano.yaml", [*shared, *distill]),
            build_distillation,
            DistillationTrainer.from_config,
        ),
    }
    if steps == 1:  # the losses of pre-training are of a whole batch, so that two half batches are something else
        for kind in ("clip", "vfm"):
            cfg = get_pretraining_cfg("", [*shared, *pretrain, "MODEL.PRETRAINING.KIND", kind])
            trainings[kind] = (cfg, build_pretraining, PretrainingTrainer)
    for name, (cfg, build, build_trainer) in trainings.items():
        train(name, cfg, build, build_trainer, folder)


def train(name, cfg, build, build_trainer, folder):
    import torch

    from d2host import comm

    torch.manual_seed(0)
    cfg.freeze()
    model = build(cfg).double()
    for module in model.modules():
        if hasattr(module, "precision"):  # that of a teacher
            module.precision = type("Float64", (), {"dtype": torch.float64})
    trainer = build_trainer(cfg, model)
    batches = trainer.build_train_loader

    def in_float64(start_iter):
        for batch in batches(start_iter):
            yield [{key: _double(value) for key, value in sample.items()} for sample in batch]

    trainer.build_train_loader = in_float64
    trainer.train(0, ITERATIONS)
    if comm.get_rank() == 0:
        norm = trainer.storage.latest()["grad_norm"][0]
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        torch.save({"grad_norm": norm, "weights": weights}, folder / f"{name}.pt")


def _double(value):
    return value.double() if hasattr(value, "is_floating_point") and value.is_floating_point() else value


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), (int(sys.argv[2]), Path(sys.argv[3])))
