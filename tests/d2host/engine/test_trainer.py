import itertools
import math

import pytest
import torch
from torch import nn

from d2host.engine import OptimizerOptions, Precision, Trainer, TrainingOptions, build_optimizer
from d2host.engine.errors import TrainingError
from d2host.engine.hooks import CheckpointHook, forget_metrics_from


class Regression(nn.Module):
    """Fits a line through noisy points; the noise comes from the global generator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, 1)

    def forward(self, batch):
        x = torch.stack([sample["x"] for sample in batch])
        noise = torch.randn(len(x), 1)
        return {"loss": (self.linear(x) - x.sum(dim=1, keepdim=True) + 0.1 * noise).square().mean()}


class LineTrainer(Trainer):
    def __init__(self, folder, max_iter, poison=None, stop=None, **options):
        model = Regression()
        optimizer = build_optimizer(model, OptimizerOptions(lr=0.05, weight_decay=0.01))
        super().__init__(model, optimizer, TrainingOptions(folder, max_iter, **options))
        self.poison, self.stop, self.losses = poison, stop, []
        self.register_hooks([CheckpointHook(3)])

    def build_train_loader(self, start_iter):
        for number in itertools.count(start_iter * self.options.accumulation_steps):
            generator = torch.Generator().manual_seed(number)
            batch = [{"x": torch.randn(2, generator=generator), "file_name": f"{number}.jpg"} for _ in range(4)]
            if number == self.stop:
                raise KeyboardInterrupt
            if number == self.poison:
                batch[0]["x"] = torch.full((2,), math.nan)
            yield batch

    def after_step(self):
        self.losses.append(self.storage.latest()["loss"][0])
        super().after_step()


def test_training_lowers_the_loss_and_records_what_happens(tmp_path):
    trainer = LineTrainer(tmp_path, 60)
    trainer.train(0, 60)
    assert trainer.losses[-1] < 0.1 * trainer.losses[0]
    recorded = trainer.storage.latest()
    assert recorded.keys() >= {"loss", "total_loss", "lr", "grad_norm", "data_time", "images_per_second"}
    assert (tmp_path / "model_final.pth").is_file()


def test_what_a_model_measures_is_recorded_and_is_no_loss(tmp_path, monkeypatch):
    plain = LineTrainer(tmp_path / "plain", 3)
    plain.train(0, 3)
    forward = Regression.forward
    monkeypatch.setattr(Regression, "forward", lambda self, batch: {**forward(self, batch), "size": torch.tensor(4.0)})
    measuring = LineTrainer(tmp_path / "measuring", 3)
    measuring.train(0, 3)
    assert measuring.losses == plain.losses
    recorded = measuring.storage.latest()
    assert recorded["size"][0] == 4 and recorded["total_loss"][0] == recorded["loss"][0]


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(tmp_path):
    whole = LineTrainer(tmp_path / "whole", 8)
    whole.train(0, 8)
    with pytest.raises(KeyboardInterrupt):
        LineTrainer(tmp_path / "cut", 8, stop=5).train(0, 8)  # two iterations past the checkpoint of iteration 2
    torch.manual_seed(99)
    resumed = LineTrainer(tmp_path / "cut", 8)
    start = resumed.resume(resumed.checkpointer.last())
    resumed.train(start, 8)
    assert start == 3 and resumed.losses == whole.losses[3:]
    assert torch.equal(resumed.model.linear.weight, whole.model.linear.weight)


def test_accumulated_batches_step_like_one_large_batch(tmp_path):
    """Two batches of four against the same eight samples in one, without noise."""
    weights = []
    for accumulate in (True, False):
        trainer = LineTrainer(tmp_path / str(accumulate), 3, accumulation_steps=2 if accumulate else 1)
        trainer.model.forward = quiet(trainer.model)
        loader = trainer.build_train_loader(0)
        if not accumulate:
            pairs = (first + second for first, second in zip(*[iter(loader)] * 2, strict=False))
            trainer.build_train_loader = lambda start, pairs=pairs: pairs
        trainer.train(0, 3)
        weights.append(trainer.model.linear.weight)
    torch.testing.assert_close(*weights)


def quiet(model):
    def forward(batch):
        x = torch.stack([sample["x"] for sample in batch])
        return {"loss": (model.linear(x) - x.sum(dim=1, keepdim=True)).square().mean()}

    return forward


def test_gradients_are_clipped_to_one_norm_over_all_parameters(tmp_path):
    trainer = LineTrainer(tmp_path, 1, clip_norm=1e-3)
    trainer.train(0, 1)
    gradients = torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])
    assert gradients.norm() == pytest.approx(1e-3, rel=1e-3)
    assert trainer.storage.latest()["grad_norm"][0] > 1e-3


def test_mixed_precision_on_the_cpu_runs_products_in_bf16(tmp_path):
    seen = []
    trainer = LineTrainer(tmp_path, 1, precision=Precision.BF16)
    trainer.model.linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.train(0, 1)
    assert seen == [torch.bfloat16] and trainer.model.linear.weight.dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_with_iteration_images_and_last_checkpoint(tmp_path):
    trainer = LineTrainer(tmp_path, 8, poison=4)
    with pytest.raises(
        TrainingError, match=r"iteration 4 .*images 4\.jpg.*last good checkpoint is .*model_0000002\.pth"
    ):
        trainer.train(0, 8)
    assert trainer.model.linear.weight.isfinite().all()


def test_metrics_of_iterations_that_are_run_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1}\n{"iteration": 2}\n{"iteration": 3}\n{"iter')
    forget_metrics_from(path, 3)
    assert path.read_text() == '{"iteration": 1}\n{"iteration": 2}\n'
    forget_metrics_from(tmp_path / "none.json", 0)
