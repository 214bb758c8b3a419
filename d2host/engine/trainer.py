"""The training loop, on the host's ``TrainerBase``."""

import logging
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from d2host import (
    CommonMetricPrinter,
    HookBase,
    JSONWriter,
    TensorboardXWriter,
    TrainerBase,
    comm,
    hooks,
    print_csv_format,
)
from d2host.engine.checkpoint import RunCheckpointer, load_run, load_weights
from d2host.engine.errors import TrainingError
from d2host.engine.hooks import CheckpointHook, TerminationHook, forget_metrics_from
from d2host.engine.options import TrainingOptions
from d2host.engine.parallel import average_over_processes, losing_no_process, parallelize, unwrap
from d2host.engine.schedule import warmup_cosine

METRICS_FILE = "metrics.json"
WRITE_PERIOD = 20


class Trainer(TrainerBase):
    """Trains a model that maps a batch (a list of dicts) to a dict of losses.

    A step is ``accumulation_steps`` batches, one clipped optimizer step, one schedule step. The state of a run (model,
    optimizer, schedule, loss scaler, iteration, random generators of every process) is saved and restored exactly;
    which samples come next follows from the iteration, so the loader is built for the iteration to start with.
    Subclasses give the batches (:meth:`build_train_loader`) and :meth:`evaluate`.

    Args:
        model: on its device; wrapped for data parallelism here.
        optimizer: of the model's parameters.
        options: how the training goes.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, options: TrainingOptions) -> None:
        super().__init__()
        self.device = next(model.parameters()).device
        self.model = parallelize(model, self.device)
        self.optimizer, self.options = optimizer, options
        self.scheduler = warmup_cosine(optimizer, options.max_iter, options.warmup_iters, options.warmup_factor)
        self.checkpointer = RunCheckpointer(options.output_dir, options.keep)
        self.scaler = options.precision.grad_scaler(self.device)
        self._batches = iter(())

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches from iteration ``start_iter`` on, without end."""
        raise NotImplementedError  # abstract

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics of the model as it is, by name of what it was evaluated on; empty on processes other than 0."""
        return {}

    def report(self) -> None:
        """Evaluate, and log the metrics in ``copypaste:`` lines."""
        results = self.evaluate()
        if comm.is_main_process():
            print_csv_format(results)

    def load_weights(self, path: str | Path) -> None:
        """Give the model the weights of a checkpoint of a run, strictly; nothing else of the run.

        Raises:
            CheckpointError: the file is missing, corrupt, unsafe, or of another model.
        """
        load_weights(path, unwrap(self.model))

    def run(self, resume: bool = False) -> None:
        """Train from the beginning, or from the newest checkpoint, to the end.

        Raises:
            ConfigError: the output directory holds another run and ``resume`` is not asked for.
        """
        options = self.options
        if not resume:
            self.checkpointer.require_none()
        start_iter = self.resume() if resume else 0
        evaluation = hooks.EvalHook(options.eval_period, self.evaluate)
        built: list[HookBase] = [hooks.IterationTimer(), CheckpointHook(options.checkpoint_period), evaluation]
        if comm.is_main_process():
            folder = Path(options.output_dir)
            forget_metrics_from(folder / METRICS_FILE, start_iter)
            writers = [
                CommonMetricPrinter(options.max_iter),
                JSONWriter(str(folder / METRICS_FILE)),
                TensorboardXWriter(str(folder)),
            ]
            built.append(hooks.PeriodicWriter(writers, WRITE_PERIOD))
        self.register_hooks([*built, TerminationHook()])
        self.train(start_iter, options.max_iter)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the loop on a loader that begins where ``start_iter`` does."""
        self.model.train()
        self._batches = iter(self.build_train_loader(start_iter))
        try:
            super().train(start_iter, max_iter)
        finally:
            self._batches = iter(())  # ends the processes that load

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
            with losing_no_process():
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
        state = {
            "iteration": self.iter,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": comm.gather(_random_state(self.device)),
        }
        return self.checkpointer.save(name, self.model, state)

    def resume(self) -> int:
        """Restore the newest checkpoint, if there is one; returns the iteration to start with."""
        path = self.checkpointer.last()
        if path is None:
            logging.getLogger(__name__).info("No checkpoint in %s: starting anew", self.checkpointer.directory)
            return 0
        state = load_run(path, unwrap(self.model))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        if len(state["generators"]) == comm.get_world_size():
            _restore_random_state(state["generators"][comm.get_rank()], self.device)
        logging.getLogger(__name__).info("Resumed from %s", path)
        return state["iteration"] + 1


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
