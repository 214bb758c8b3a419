"""The body of the training loop, on the host's ``TrainerBase``."""

import logging
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2host import TrainerBase, comm
from d2host.engine.checkpoint import RunCheckpointer, load_run
from d2host.engine.errors import TrainingError
from d2host.engine.precision import Precision


@dataclass(frozen=True)
class StepOptions:
    """How a step is made.

    Attributes:
        precision: of matrix products.
        accumulation_steps: batches per optimizer step.
        clip_norm: largest L2 norm of the gradient of all parameters together; 0: no clipping.
    """

    precision: Precision = Precision.FP32
    accumulation_steps: int = 1
    clip_norm: float = 0.0


class Trainer(TrainerBase):
    """Trains a model that maps a batch (a list of dicts) to a dict of losses.

    A step is ``accumulation_steps`` batches, one clipped optimizer step, one schedule step. Its state (model,
    optimizer, schedule, loss scaler, iteration, random generators of every process) is saved and restored exactly;
    which samples come next follows from the iteration, so the loader is built for the iteration to start with.

    Args:
        model: on its device; wrapped for data parallelism here.
        optimizer, scheduler: of the model's parameters.
        checkpointer: where the state goes.
        options: see :class:`StepOptions`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        checkpointer: RunCheckpointer,
        options: StepOptions | None = None,
    ) -> None:
        super().__init__()
        self.device = next(model.parameters()).device
        self.model = parallelize(model, self.device)
        self.optimizer, self.scheduler, self.checkpointer = optimizer, scheduler, checkpointer
        self.options = options or StepOptions()
        self.scaler = self.options.precision.grad_scaler(self.device)
        self._batches = iter(())

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches from iteration ``start_iter`` on, without end."""
        raise NotImplementedError  # abstract

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the loop on a loader that begins where ``start_iter`` does."""
        self.model.train()
        self._batches = iter(self.build_train_loader(start_iter))
        super().train(start_iter, max_iter)

    def run_step(self) -> None:
        """One optimizer step."""
        steps = self.options.accumulation_steps
        totals: dict[str, float] = {}
        waited = images = 0
        files: list[str] = []
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        for step in range(steps):
            fetching = time.perf_counter()
            batch = next(self._batches)
            waited += time.perf_counter() - fetching
            images += len(batch)
            files += [str(sample.get("file_name", "")) for sample in batch]
            losses = self._backward(batch, synchronize=step == steps - 1)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / steps
        self._check_finite(totals, files)
        grad_norm = self._step()
        self._record(totals, grad_norm, waited, images / (time.perf_counter() - started))

    def _backward(self, batch: list[dict], synchronize: bool) -> dict[str, float]:
        """Forward and backward of one batch; returns the losses, averaged over the processes."""
        parallel = isinstance(self.model, DistributedDataParallel)
        with self.model.no_sync() if parallel and not synchronize else nullcontext():
            with self.options.precision.autocast(self.device):
                losses = self.model(batch)
                total = sum(losses.values())
            self.scaler.scale(total / self.options.accumulation_steps).backward()
        return average_over_processes({**losses, "total_loss": total})

    def _step(self) -> float:
        """Clip and step; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.options.clip_norm:
            parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.options.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm.item()

    def _record(self, losses: dict[str, float], grad_norm: float, waited: float, speed: float) -> None:
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        self.scheduler.step()
        # unsmoothed, so that metrics.json of a resumed run equals that of an uninterrupted one
        self.storage.put_scalars(**losses, grad_norm=grad_norm, smoothing_hint=False)
        self.storage.put_scalar("data_time", waited)
        self.storage.put_scalar("images_per_second", speed * comm.get_world_size())
        self.storage.put_scalar("lr", lr, smoothing_hint=False)

    def _check_finite(self, losses: dict[str, float], files: list[str]) -> None:
        if all(math.isfinite(value) for value in losses.values()):
            return
        last = self.checkpointer.last()
        good = f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"
        values = ", ".join(f"{name} {value}" for name, value in losses.items())
        raise TrainingError(
            f"the loss is not finite at iteration {self.iter} ({values}; images {', '.join(files)}): lower the "
            f"learning rate or check these images and labels; {good}"
        )

    def save(self, name: str) -> Path:
        """Save the whole state after the current step as ``name.pth``; every process calls it."""
        generators = comm.gather(_random_state(self.device))
        return self.checkpointer.save(name, self.model, self._training_state(generators))

    def _training_state(self, generators: list[dict[str, Tensor]]) -> dict[str, Any]:
        return {
            "iteration": self.iter,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": generators,
        }

    def resume(self) -> int:
        """Restore the newest checkpoint, if there is one; returns the iteration to start with."""
        path = self.checkpointer.last()
        if path is None:
            logging.getLogger(__name__).info("No checkpoint in %s: starting anew", self.checkpointer.directory)
            return 0
        state = load_run(path, self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if len(state["generators"]) == comm.get_world_size():
            _restore_random_state(state["generators"][comm.get_rank()], self.device)
        logging.getLogger(__name__).info("Resumed from %s", path)
        return state["iteration"] + 1


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model for data parallelism where there are several processes.

    Parameters without gradient are looked for: which ones have none depends on context type and vocabulary size.
    """
    if comm.get_world_size() == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(
        model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def average_over_processes(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars averaged over all processes, on every process."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if comm.get_world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= comm.get_world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
