"""A training in miniature as a program of its own, for tests of what ends one.

Each process leaves ``RANK.pid`` in the folder once it trains, or evaluates where that is asked for. Options:

FOLDER            where it leaves its files
--num-gpus N      processes
--resume          go on from the last checkpoint
--evaluate        wait, as in an evaluation that takes long
--workers N       processes that load
--fault KIND      what process 1 (of one process: 0) meets in its fourth step, one of ``FAULTS``
"""

import argparse
import os
import signal
import time
from pathlib import Path

from d2host.engine.command import run_command
from d2host.engine.errors import DataError


def bad_image():
    raise DataError("image a.jpg is unreadable: replace it")


FAULTS = {
    "sentence": bad_image,
    "defect": lambda: 1 // 0,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(600),
}


class Points:
    """Eight points in the plane, by (epoch, index)."""

    def __len__(self):
        return 8

    def __getitem__(self, place):
        epoch, index = place
        return {"x": [index / 8, (index * (epoch + 3) % 8) / 8]}


def main(args):
    import torch
    from torch import nn

    from d2host import comm, setup_logger
    from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
    from d2host.engine.loading import endless_loader

    class Line(nn.Linear):
        def forward(self, batch):
            x = torch.tensor([sample["x"] for sample in batch])
            return {"loss": (super().forward(x) - x.sum(dim=1, keepdim=True)).square().mean()}

    class LineTrainer(Trainer):
        def build_train_loader(self, start_iter):
            return endless_loader(
                Points(),
                seed=0,
                images_per_batch=4,
                accumulation_steps=1,
                num_workers=args.workers,
                start_iter=start_iter,
            )

        def before_step(self):
            super().before_step()
            (folder / f"{comm.get_rank()}.pid").write_text(str(os.getpid()))
            if args.fault and self.iter == 3 and comm.get_rank() == comm.get_world_size() - 1:
                FAULTS[args.fault]()
            time.sleep(args.seconds)

    folder = Path(args.folder)
    if args.evaluate:
        (folder / f"{comm.get_rank()}.pid").write_text(str(os.getpid()))
        time.sleep(600)
    setup_logger(distributed_rank=comm.get_rank())
    torch.manual_seed(0)
    model = Line(2, 1)
    trainer = LineTrainer(
        model, build_optimizer(model, OptimizerOptions(lr=0.01)), TrainingOptions(folder, args.iterations)
    )
    trainer.run(trainer.checkpointer.last() if args.resume else None)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--num-gpus", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--fault", choices=FAULTS)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main, arguments())
