"""From a command line to a run, with a trainer that takes milliseconds."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from d2host import HOST
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer, config_file, run_training
from d2host.engine.command import argument_parser
from d2host.engine.config import TRAINING_KEYS
from d2host.engine.errors import CheckpointError, ConfigError, DeclipError, OutputError
from d2host.engine.folder import owned
from d2host.engine.keys import SWITCH, Integer, Key, with_defaults
from d2host.engine.precision import Precision

KEYS = {
    **with_defaults(TRAINING_KEYS, {"SOLVER.MAX_ITER": 6, "SOLVER.CHECKPOINT_PERIOD": 2}),
    "MODEL.WIDTH": Key(2, Integer(), "of the model"),
    "MODEL.DECAYS": Key(False, SWITCH, "whether all of it decays"),
}


class Line(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(2, width)

    def forward(self, batch):
        return {"loss": self.linear(batch[0]["x"]).square().mean()}


class LineTrainer(Trainer):
    def __init__(self, cfg, model):
        self.reported = False
        optimizer = build_optimizer(
            model, OptimizerOptions.from_config(cfg, no_decay=[] if cfg.MODEL.DECAYS else ["linear.bias"])
        )
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    def build_train_loader(self, start_iter):
        for number in itertools.count(start_iter):
            yield [{"x": torch.full((2,), float(number))}]

    def report(self):
        self.reported = True


def run(folder, *arguments, overrides=()):
    """The trainer of a command line."""
    trainers = []

    def read_config(file, opts):
        return config_file.read_config(KEYS, file, opts)

    def build_trainer(cfg, model):
        trainers.append(LineTrainer(cfg, model))
        return trainers[-1]

    options = ("MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder), *overrides)
    args = argument_parser().parse_args([*arguments, *options])
    run_training(args, read_config, lambda cfg: Line(cfg.MODEL.WIDTH), build_trainer)
    return trainers[-1]


@pytest.fixture
def finished(tmp_path):
    run(tmp_path / "run")
    return tmp_path / "run"


def content(folder):
    """Everything that may not change when a run is refused."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "log.txt"}


REFUSED = {
    "anew": ((), (), ConfigError, "is of an earlier run: add --resume"),
    "anew without a pointer": ((), ("last_checkpoint",), ConfigError, "is of an earlier run: add --resume"),
    "another rate": (("SOLVER.BASE_LR", "0.5"), (), ConfigError, r"SOLVER\.BASE_LR was 0\.0001 and is 0\.5"),
    "another decay": (("SOLVER.WEIGHT_DECAY", "0.5"), (), ConfigError, r"SOLVER\.WEIGHT_DECAY was"),
    "another model": (("MODEL.WIDTH", "3"), (), ConfigError, r"MODEL\.WIDTH was 2 and is 3"),
    "other groups": (("MODEL.DECAYS", "True"), (), ConfigError, r"MODEL\.DECAYS was False and is True"),
    "too short": (("SOLVER.MAX_ITER", "5"), (), ConfigError, "has done 6 iterations"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_go_on_is_refused_and_changes_nothing(case, finished):
    overrides, removed, kind, sentence = REFUSED[case]
    for name in removed:
        (finished / name).unlink()
    before = content(finished)
    with pytest.raises(kind, match=sentence):
        run(finished, *(() if case.startswith("anew") else ("--resume",)), overrides=overrides)
    assert content(finished) == before


def test_a_checkpoint_without_a_config_is_refused_by_what_does_not_fit(finished):
    path = finished / "model_final.pth"
    saved = torch.load(path, weights_only=True)
    del saved["training"]["config"], saved["training"]["metrics"]
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="of another model than the config describes"):
        run(finished, "--resume", overrides=("MODEL.WIDTH", "3"))
    with pytest.raises(
        CheckpointError, match=r"its optimizer has groups of \[1, 1\] parameters, that of the config \[2\]"
    ):
        run(finished, "--resume", overrides=("MODEL.DECAYS", "True"))
    assert run(finished, "--resume").iter == 6


def test_resuming_nothing_starts_anew_and_says_so(tmp_path):
    assert run(tmp_path, "--resume").start_iter == 0
    assert f"No checkpoint in {tmp_path}: starting anew" in (tmp_path / "log.txt").read_text()


def test_a_longer_schedule_is_honoured_and_logged(finished):
    assert run(finished, "--resume", overrides=("SOLVER.MAX_ITER", "9")).iter == 9
    assert "From iteration 6 on SOLVER.MAX_ITER is 9, not 6" in (finished / "log.txt").read_text()
    assert "MAX_ITER: 9" in (finished / "config.yaml").read_text()


def test_an_evaluation_leaves_the_run_alone(finished):
    before = content(finished)
    assert run(finished, "--eval-only", overrides=("SOLVER.BASE_LR", "0.5")).reported
    assert content(finished) == before


def test_an_evaluation_of_nothing_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint: train first"):
        run(tmp_path / "run", "--eval-only")
    assert not (tmp_path / "run").exists()


HOLD = """
import sys, time
from d2host.engine.folder import owned
from d2host.engine.keys import SWITCH, Integer, Key, with_defaults
from d2host.engine.precision import Precision
with owned(sys.argv[1]):
    print(flush=True)
    time.sleep(60)
"""


def test_beside_a_run_a_second_is_refused_and_an_evaluation_is_not(finished, monkeypatch):
    monkeypatch.setattr("d2host.engine.run.owned", lambda folder: owned(folder, patience=0.1))
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(finished)], stdout=subprocess.PIPE)
    try:
        first.stdout.readline()
        before = content(finished)
        with pytest.raises(ConfigError, match="another run writes to"):
            run(finished, "--resume")
        assert run(finished, "--eval-only").reported
        assert content(finished) == before
    finally:
        first.kill()
        first.wait()


PLACES = {
    "a file": lambda path: path.touch(),
    "a dangling link": lambda path: path.symlink_to("gone"),
    "a pipe": os.mkfifo,
    "a folder for the log": lambda path: (path / "log.txt").mkdir(parents=True),
    "a folder for the config": lambda path: (path / "config.yaml" / "full").mkdir(parents=True),
    "a folder for the metrics": lambda path: (path / "metrics.json").mkdir(parents=True),
    "a folder for the final checkpoint": lambda path: (path / "model_final.pth" / "full").mkdir(parents=True),
    "a link into nowhere for the log": lambda path: path.mkdir() or (path / "log.txt").symlink_to("gone/log.txt"),
    "a link into nowhere for the metrics": lambda path: path.mkdir() or (path / "metrics.json").symlink_to("gone/x"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", [(), ("--resume",)])
def test_places_that_cannot_be_written_to_end_with_a_sentence(place, option, tmp_path):
    PLACES[place](tmp_path / "run")
    with pytest.raises(DeclipError, match=r"could not be written \(") as caught:
        run(tmp_path / "run", *option)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["/proc/none/run", "/dev/null", "/dev/null/run", "\0", "long" * 100])
def test_places_that_are_none_end_with_a_sentence(place):
    with pytest.raises(DeclipError, match=r"could not be written \(|OUTPUT_DIR is .* it must be a name or a path"):
        run(place)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_metrics_on_a_full_disk_end_a_run_with_a_sentence(tmp_path):
    (tmp_path / "metrics.json").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"the metrics in .* could not be written \(No space left on device\)"):
        run(tmp_path)
    assert (tmp_path / "model_final.pth").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists() or HOST.name != "embedded", reason="of the embedded host")
def test_a_run_does_without_its_log_on_a_full_disk(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    assert run(tmp_path).iter == 6
    said = capsys.readouterr().err
    assert "log.txt cannot be written any more (No space left on device)" in said and "Traceback" not in said


@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_keeps_the_precision_that_auto_was_where_it_began(enabled, tmp_path):
    """As on a machine with instructions for bf16 and on one without."""
    run(tmp_path / "run", overrides=("SOLVER.AMP.ENABLED", str(enabled), "SOLVER.MAX_ITER", "4"))
    trainer = run(tmp_path / "run", "--resume", overrides=("SOLVER.AMP.ENABLED", "auto"))
    assert trainer.iter == 6
    assert trainer.options.precision is (Precision.BF16 if enabled else Precision.FP32)


def test_what_auto_was_is_written_with_the_run(tmp_path):
    trainer = run(tmp_path / "run", overrides=("SOLVER.AMP.ENABLED", "auto"))
    enabled = trainer.options.precision is not Precision.FP32
    assert f"    ENABLED: {str(enabled).lower()}\n" in (tmp_path / "run/config.yaml").read_text(encoding="utf-8")
    saved = torch.load(tmp_path / "run/model_final.pth", weights_only=True)
    assert saved["training"]["config"]["SOLVER"]["AMP"]["ENABLED"] is enabled
