"""A run that ends at any moment, by a kill or a full disk, and goes on: it leaves what an undisturbed run leaves."""

import errno
import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.atomic import replacing
from d2host.engine.errors import ConfigError, DeclipError
from d2host.engine.folder import owned
from d2host.engine.state import TIMES


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(2, 1)

    def forward(self, batch):
        noise = torch.randn(1)  # of the global generator
        return {"loss": (self.linear(torch.stack([sample["x"] for sample in batch])) - 1 + noise).square().mean()}


class LineTrainer(Trainer):
    """Exports, evaluates with the global generator, and logs; all of it in milliseconds."""

    def __init__(self, folder, max_iter=8, **options):
        model = Line()
        options = {"checkpoint_period": 3, "keep": 1, "eval_period": 2} | options
        built = build_optimizer(model, OptimizerOptions(lr=0.05, weight_decay=0.01))
        super().__init__(model, built, TrainingOptions(folder, max_iter, warmup_iters=2, **options))

    def build_train_loader(self, start_iter):
        for number in itertools.count(start_iter):
            yield [{"x": torch.randn(2, generator=torch.Generator().manual_seed(number))} for _ in range(2)]

    def export_beside(self):
        with replacing(Path(self.options.output_dir) / "export.json") as file:
            file.write_text(json.dumps([self.iter, self.model.linear.weight.tolist()]))

    def evaluate(self):
        return {"line": {"error": (self.model.linear.weight.sum() + torch.rand(1)).item()}}


def train(folder, **options):
    """Begin or go on, as the command lines do; a run that goes on finds generators in another state."""
    with owned(folder):
        trainer = LineTrainer(folder, **options)
        checkpoint = trainer.checkpointer.last()
        torch.manual_seed(99 if checkpoint else 0)
        trainer.run(checkpoint)


def left(folder):
    """Everything a run leaves but for times: weights, export, metrics."""
    content = torch.load(folder / "model_final.pth", weights_only=True)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    metrics = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    weights = {name: tensor.tolist() for name, tensor in content["model"].items()}
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    return weights, (folder / "export.json").read_text(), metrics, names


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    return left(folder)


class Killed(BaseException):
    """What the test ends a run by: nothing on the way catches it."""


class Disk:
    """Counts what reaches the disk, and from operation number ``last`` on refuses it, as after a kill or when full."""

    def __init__(self, monkeypatch, last=None, refuse=Killed):
        self.count, self.last, self.refuse = 0, last, refuse
        for owner, name in [(os, "replace"), (os, "fsync"), (os, "chmod"), (Path, "touch"), (Path, "unlink")]:
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, operation):
        def call(*arguments, **options):
            if self.last is not None and self.count >= self.last:
                raise self.refuse()
            self.count += 1
            return operation(*arguments, **options)

        return call


def operations(tmp_path, **options):
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        train(tmp_path / "counted", **options)
    return disk.count


def test_metrics_hold_every_evaluation_and_medians(undisturbed):
    _, _, metrics, names = undisturbed
    assert [line["iteration"] for line in metrics] == [1, 3, 5, 7, 8]
    assert ["line/error" in line for line in metrics] == [True, True, True, False, True]
    assert {"model_final.pth", "model_0000005.pth", "last_checkpoint", "export.json", "metrics.json"} <= names


def test_a_kill_at_any_moment_changes_nothing(undisturbed, tmp_path):
    number = operations(tmp_path)
    assert number > 40
    for last in range(number):
        folder = tmp_path / str(last)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            Disk(patch, last)
            train(folder)
        train(folder)
        assert left(folder) == undisturbed, f"killed at operation {last}"


def test_a_kill_while_going_on_changes_nothing(undisturbed, tmp_path):
    for first, second in [(20, 3), (20, 9), (30, 2), (30, 6), (38, 4)]:
        folder = tmp_path / f"{first}_{second}"
        for last in (first, second):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
                Disk(patch, last)
                train(folder)
        train(folder)
        assert left(folder) == undisturbed, f"killed at operations {first}, {second}"


def full():
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_any_moment_ends_with_a_sentence_and_loses_nothing(undisturbed, tmp_path):
    for last in range(0, operations(tmp_path), 3):
        folder = tmp_path / str(last)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, last, full)
            try:
                train(folder)
            except DeclipError as error:
                assert "No space left on device" in str(error) and "\n" not in str(error)
        train(folder)
        weights, export, metrics, _ = left(folder)
        assert (weights, export, metrics) == undisturbed[:3], f"full at operation {last}"


@pytest.mark.parametrize("missing", ["export.json", "metrics.json", "last_checkpoint", "all", "nothing"])
def test_going_on_with_a_finished_run_redoes_what_is_missing(missing, undisturbed, tmp_path):
    train(tmp_path)
    for name in ("export.json", "metrics.json", "last_checkpoint"):
        if missing in (name, "all"):
            (tmp_path / name).unlink()
    train(tmp_path)
    weights, export, metrics, names = left(tmp_path)
    assert (weights, export) == undisturbed[:2]
    if missing in ("metrics.json", "all"):  # lines older than the checkpoint cannot be had again
        assert metrics[-2:] == undisturbed[2][-2:]
    else:
        assert metrics == undisturbed[2]
    assert names >= undisturbed[3] - {"last_checkpoint"}


@pytest.mark.parametrize(
    "rubbish", [b"", b"\xff\xfe", b"[1]\n", b"3\n", b'{"iteration": 1', b"null\n" * 3, b'{"loss": 1}\n']
)
def test_rubbish_in_metrics_is_dropped(rubbish, undisturbed, tmp_path):
    train(tmp_path)
    with open(tmp_path / "metrics.json", "ab") as file:
        file.write(rubbish)
    train(tmp_path)
    assert left(tmp_path) == undisturbed


def test_a_longer_schedule_goes_on_with_a_finished_run(tmp_path):
    train(tmp_path, max_iter=8)
    train(tmp_path, max_iter=12)
    whole = LineTrainer(tmp_path / "other", max_iter=12)
    assert json.loads((tmp_path / "export.json").read_text())[0] == 11
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3, 5, 7, 9, 11, 12]
    for _ in range(9):
        whole.optimizer.step()
        whole.scheduler.step()
    assert lines[4]["lr"] == pytest.approx(whole.optimizer.param_groups[0]["lr"])


def test_a_schedule_that_ends_at_a_checkpoint_ends_as_final(tmp_path):
    train(tmp_path, max_iter=8)
    (tmp_path / "model_final.pth").unlink()
    train(tmp_path, max_iter=6)
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["training"]["iteration"] == 5


def test_a_run_is_not_started_anew_where_one_is(tmp_path):
    train(tmp_path)
    (tmp_path / "last_checkpoint").unlink()
    with pytest.raises(ConfigError, match="of an earlier run: add --resume"):
        LineTrainer(tmp_path).run()


@pytest.mark.parametrize("name", ["metrics.json", "export.json"])
def test_a_folder_in_the_place_of_a_file_ends_with_a_sentence(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(DeclipError, match=r"could not be written \("):
        train(tmp_path)
