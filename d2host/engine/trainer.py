"""The training loop, on the host's ``TrainerBase``."""

import logging
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

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
from d2host.engine.checkpoint import FINAL, RunCheckpointer
from d2host.engine.checkpoint_file import load_run, load_weights
from d2host.engine.errors import CheckpointError, OutputError, TrainingError
from d2host.engine.hooks import CheckpointHook, MetricsHook, TerminationHook, forget_metrics_from
from d2host.engine.lanes import Place
from d2host.engine.optimizer import restore_optimizer
from d2host.engine.options import TrainingOptions
from d2host.engine.parallel import average_over_processes, losing_no_process, parallelize, unwrap
from d2host.engine.schedule import warmup_cosine
from d2host.engine.state import WINDOW, random_state, recent_metrics, restore_metrics, restore_random_state

METRICS_FILE = "metrics.json"


class Trainer(TrainerBase):
    """Trains a model that maps a batch (a list of dicts) to a dict of losses, named ``loss…``, and measures to log.

    A step is ``accumulation_steps`` batches, one clipped optimizer step, one schedule step. A checkpoint is the state
    of the run (model, optimizer, loss scaler, iteration, recent metrics, random generators of every process) at one
    moment: after the step, and before what follows a checkpoint, which is what :meth:`export_beside` writes, the
    evaluation and the metrics of the iteration. A run that goes on from a checkpoint does these again, then the next
    step: whenever it was killed, it leaves what an undisturbed run does. Which samples come next follows from the
    iteration that the loader is built for, or from the places of lanes (:mod:`d2host.engine.lanes`) in the checkpoint.

    Subclasses give the batches (:meth:`build_train_loader`), :meth:`evaluate` and :meth:`export_beside`, and may give
    another :meth:`build_schedule`.

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
        self.scheduler = self.build_schedule(0)
        self.checkpointer = RunCheckpointer(options.output_dir, options.keep)
        self.scaler = options.precision.grad_scaler(self.device)
        self.places: list[Place] = []  # of the lanes of all processes, from the checkpoint that the run goes on from
        self._places: list[Place] = []  # of this process's, behind its last batch
        self._batches = iter(())
        self._restored: dict = {}  # what is left to restore of the checkpoint that the run goes on from
        self._after_checkpoint: list[HookBase] = []  # what an iteration does once its checkpoint is saved

    def build_schedule(self, start_iter: int) -> LambdaLR:
        """The learning rate from an iteration on."""
        options = self.options
        steps = options.max_iter, options.warmup_iters, options.warmup_factor
        return warmup_cosine(self.optimizer, *steps, start_iter=start_iter)

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches from iteration ``start_iter`` on, without end."""
        raise NotImplementedError  # abstract

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics of the model as it is, by name of what it was evaluated on; empty on processes other than 0."""
        return {}

    def export_beside(self) -> None:
        """Write what goes with a checkpoint, as its weights in another format: nothing, unless a subclass does."""

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

    def run(self, checkpoint: Path | None = None) -> None:
        """Train from the beginning, or from a checkpoint of the output directory, to the end.

        Raises:
            ConfigError: the output directory holds a run, and no checkpoint of it is given.
            CheckpointError: the checkpoint is of another model, or cannot be used.
            OutputError: a file cannot be written.
        """
        options, folder = self.options, Path(self.options.output_dir)
        if checkpoint is None:
            self.checkpointer.require_none()
        start_iter = self.resume(checkpoint) if checkpoint else 0
        metrics = MetricsHook(folder, [], [WINDOW, options.eval_period])
        if comm.is_main_process():
            try:
                forget_metrics_from(folder / METRICS_FILE, metrics.written_before(start_iter - 1) if checkpoint else 0)
                metrics.writers = [
                    CommonMetricPrinter(options.max_iter),
                    JSONWriter(str(folder / METRICS_FILE), WINDOW),
                    TensorboardXWriter(str(folder), WINDOW, purge_step=start_iter),
                ]
            except OSError as error:
                raise OutputError.of(folder, error) from error
        self._after_checkpoint = [hooks.EvalHook(options.eval_period, self.evaluate), metrics]
        before = [hooks.IterationTimer(), CheckpointHook(options.checkpoint_period), TerminationHook()]
        self.register_hooks([*before, *self._after_checkpoint])
        self.train(start_iter, options.max_iter)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the loop on a loader that begins where ``start_iter`` does."""
        self.model.train()
        if start_iter < max_iter:
            self._batches = iter(self.build_train_loader(start_iter))
        try:
            super().train(start_iter, max_iter)
        finally:
            self._batches = iter(())  # ends the processes that load

    def before_train(self) -> None:
        """Call the hooks; then complete the iteration of the checkpoint that the run goes on from."""
        super().before_train()
        if not self._restored:
            return
        path = self.checkpointer.newest
        restore_metrics(self.storage, self._restored["metrics"], path)
        rank, processes = comm.get_rank(), comm.get_world_size()
        restore_random_state(self._restored["generators"], rank, processes, self.device, path)
        self._restored = {}
        self.iter = self.storage.iter = self.start_iter - 1
        if self.start_iter == self.max_iter and path.stem != FINAL:
            self.save(FINAL)
        self.export_beside()
        for hook in self._after_checkpoint:
            hook.after_step()

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
            self._places = [sample["place"] for sample in batch if "place" in sample]
            files += [str(sample.get("file_name", "")) for sample in batch]
            with losing_no_process():
                losses = self._backward(batch, synchronize=step == steps - 1)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value / steps
        self._check_finite("loss", totals, files)
        grad_norm = self._step(files)
        self._record(totals, grad_norm, waited, images / (time.perf_counter() - started))

    def _backward(self, batch: list[dict], synchronize: bool) -> dict[str, float]:
        """Forward and backward of one batch; returns losses and measures, averaged over the processes."""
        parallel = isinstance(self.model, DistributedDataParallel)
        with self.model.no_sync() if parallel and not synchronize else nullcontext():
            with self.options.precision.autocast(self.device):
                losses = self.model(batch)
                total = sum(value for name, value in losses.items() if name.startswith("loss"))
            self.scaler.scale(total / self.options.accumulation_steps).backward()
        return average_over_processes({**losses, "total_loss": total})

    def _step(self, files: list[str]) -> float:
        """Clip and step; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not self.scaler.is_enabled():  # a scaler leaves out steps that are not finite
            self._check_finite("gradient", {"norm": norm.item()}, files)
        if self.options.clip_norm:
            parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.options.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm.item()

    def _record(self, losses: dict[str, float], grad_norm: float, waited: float, speed: float) -> None:
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        self.scheduler.step()
        self.storage.put_scalars(**losses, grad_norm=grad_norm)
        self.storage.put_scalar("data_time", waited)
        self.storage.put_scalar("images_per_second", speed * comm.get_world_size())
        self.storage.put_scalar("lr", lr, smoothing_hint=False)

    def _check_finite(self, what: str, numbers: dict[str, float], files: list[str]) -> None:
        if all(math.isfinite(value) for value in numbers.values()):
            return
        last = self.checkpointer.newest
        good = f"the last good checkpoint is {last}" if last else "no checkpoint was saved yet"
        values = ", ".join(f"{name} {value}" for name, value in numbers.items())
        raise TrainingError(
            f"the {what} is not finite at iteration {self.iter} ({values}; images {', '.join(files)}): "
            f"lower the learning rate or check these images and labels; {good}"
        )

    def save(self, name: str) -> Path:
        """Save the whole state after the current step as ``name.pth``; every process calls it."""
        state = {
            "iteration": self.iter,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "places": [tuple(place) for places in comm.gather(self._places) for place in places] or self.places,
            "generators": comm.gather(random_state(self.device)),
            "metrics": recent_metrics(self.storage),
            "config": dict(self.options.config),
        }
        return self.checkpointer.save(name, self.model, state)

    def resume(self, checkpoint: Path) -> int:
        """Restore what a checkpoint holds; returns the iteration to start with.

        Random generators and metrics are restored when training begins, after everything that may draw on them.

        Raises:
            CheckpointError: the checkpoint is of another model or optimizer, or cannot be used.
        """
        state = load_run(checkpoint, unwrap(self.model))
        self._restored = {key: state[key] for key in ("metrics", "generators")}
        start_iter, self.places = state["iteration"] + 1, state["places"]
        restore_optimizer(self.optimizer, state["optimizer"], checkpoint)
        self.scheduler = self.build_schedule(start_iter)
        try:
            self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(f"the loss scale in {checkpoint} cannot be used ({error}): give another") from error
        self.checkpointer.newest = checkpoint
        logging.getLogger(__name__).info("Resumed from %s", checkpoint)
        return start_iter
