import copy

import pytest
import torch
from torch import nn

from d2host import CfgNode, EventStorage
from d2host.engine import OptimizerOptions, build_optimizer
from d2host.engine.config import TRAINING_KEYS
from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.keys import declare
from d2host.engine.optimizer import restore_optimizer
from d2host.engine.state import check_continues, plain, recent_metrics, restore_metrics, restore_random_state


def configuration(**changes):
    cfg = CfgNode()
    declare(cfg, TRAINING_KEYS, {"SOLVER.MAX_ITER": 10})
    cfg.MODEL.ENCODER = CfgNode({"WEIGHTS": "clip.pt", "FINETUNE": "full", "BLOCKS": (1, 2)})
    cfg.merge_from_list([part for pair in changes.items() for part in pair])
    return cfg


def go_on(iteration=4, **changes):
    check_continues(
        "model_0000004.pth", {"iteration": iteration, "config": plain(configuration())}, configuration(**changes)
    )


MAY_CHANGE = {
    "OUTPUT_DIR": "moved",
    "MODEL.DEVICE": "cpu",
    "MODEL.ENCODER.WEIGHTS": "moved/clip.pt",
    "MODEL.WEIGHTS": "start.pth",
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.EVAL_PERIOD": 2,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "SOLVER.MAX_CHECKPOINTS": 1,
    "SOLVER.MAX_ITER": 20,
    "CUDNN_BENCHMARK": True,
}
MAY_NOT = {
    "SOLVER.BASE_LR": 0.5,
    "SOLVER.WEIGHT_DECAY": 0.5,
    "SOLVER.BETAS": "(0.5, 0.9)",
    "SOLVER.EPS": 1e-5,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.WARMUP_FACTOR": 0.5,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.ACCUMULATION_STEPS": 2,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5,
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.AMP.DTYPE": "fp16",
    "SEED": 1,
    "MODEL.ENCODER.FINETUNE": "frozen",
    "MODEL.ENCODER.BLOCKS": "(1, 3)",
    "MODEL.ENCODER.WEIGHTS": "",
}


def test_every_key_is_honoured_or_refused():
    """Those of a run and of its solver: none is left out of the two lists."""
    keys = {f"SOLVER.{key}" for key in configuration().SOLVER} | {*configuration()}
    groups = {"MODEL", "TEST", "DATALOADER", "SOLVER", "SOLVER.AMP", "SOLVER.CLIP_GRADIENTS", "VERSION"}
    assert keys - groups == {key for key in {*MAY_CHANGE, *MAY_NOT} if key.split(".")[0] not in groups or key in keys}


@pytest.mark.parametrize("key", MAY_NOT)
def test_another_run_is_not_gone_on_with(key):
    with pytest.raises(
        ConfigError, match=rf"model_0000004\.pth is of a run with another configuration, {key} was .* is"
    ):
        go_on(**{key: MAY_NOT[key]})


@pytest.mark.parametrize("key", MAY_CHANGE)
def test_what_may_change_is_logged(key, caplog):
    go_on(**{key: MAY_CHANGE[key]})
    assert f"From iteration 5 on {key} is" in caplog.text


def test_many_differences_are_one_sentence():
    with pytest.raises(ConfigError, match=r"\(and 13 more keys\): give the options it was started with") as caught:
        go_on(**MAY_NOT)
    assert "\n" not in str(caught.value)


def test_the_same_configuration_goes_on_silently(caplog):
    go_on()
    go_on(iteration=9)
    assert not caplog.records


@pytest.mark.parametrize("length", [1, 4])
def test_a_run_is_not_shorter_than_what_is_done(length):
    with pytest.raises(ConfigError, match=f"SOLVER.MAX_ITER is {length}, but model_0000004.pth has done 5 iterations"):
        go_on(**{"SOLVER.MAX_ITER": length})


def test_metrics_go_on_as_they_were():
    with EventStorage(0) as storage:
        for iteration in range(30):
            storage.iter = iteration
            storage.put_scalars(loss=float(iteration), time=1.0)
            if iteration % 10 == 0:
                storage.put_scalar("set/mIoU", iteration, smoothing_hint=False)
    with EventStorage(30) as restored:
        restore_metrics(restored, recent_metrics(storage), "model.pth")
    assert restored.iter == 29
    before = storage.latest_with_smoothing_hint(20)
    assert "time" in before
    assert restored.latest_with_smoothing_hint(20) == {name: before[name] for name in before if name != "time"}
    assert restored.latest_with_smoothing_hint(20)["loss"] == (19.5, 29)


@pytest.mark.parametrize(
    "rows", [[1], [()], ["row"], [("x", "loss", 1.0, True)], [(1, "loss", "high", True)], [(1, 2)]]
)
def test_other_metrics_are_refused(rows):
    with EventStorage(0) as storage, pytest.raises(CheckpointError, match=r"metrics in model\.pth cannot be used"):
        restore_metrics(storage, rows, "model.pth")


@pytest.mark.parametrize(
    "state", [1, {}, {"cpu": 1}, {"cpu": torch.zeros(3)}, {"cpu": torch.zeros(3, dtype=torch.uint8)}]
)
def test_other_generators_are_refused(state):
    with pytest.raises(CheckpointError, match=r"random generators in model\.pth"):
        restore_random_state([state], 0, 1, torch.device("cpu"), "model.pth")


def test_another_number_of_processes_is_said(caplog):
    restore_random_state([], 0, 1, torch.device("cpu"), "model.pth")
    assert "is of 0 process(es) and goes on in 1: images come in the same order" in caplog.text


def optimizer(*sizes, steps=1):
    """Of a model with layers of these widths, after some steps."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(2, size) for size in sizes))
    built = build_optimizer(model, OptimizerOptions(lr=0.1, weight_decay=0.1, no_decay=["0.bias", "1.bias"]))
    for _ in range(steps):
        sum(layer(torch.ones(1, 2)).sum() for layer in model).backward()
        built.step()
    return built


def test_moments_are_restored_and_learning_rates_are_the_configs():
    saved, own = optimizer(3, 4).state_dict(), optimizer(3, 4, steps=0)
    saved["param_groups"][0]["lr"] = 77.0
    restore_optimizer(own, saved, "model.pth")
    assert own.param_groups[0]["lr"] == 0.1
    assert torch.equal(own.state_dict()["state"][1]["exp_avg"], saved["state"][1]["exp_avg"])


def other_optimizers():
    """Name → a state that does not fit."""
    saved = optimizer(3, 4).state_dict()
    yield "another group", optimizer(3, 4, 5).state_dict()
    yield "other shapes", optimizer(4, 3).state_dict()
    yield "nothing", {}
    for key in saved:
        yield f"without {key}", {name: value for name, value in saved.items() if name != key}
        for wrong in (None, 1, "text", [1], {1: 2}):
            yield f"{key} {wrong!r}", saved | {key: wrong}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        for name, wrong in {
            "missing": None,
            "number": 1.0,
            "shape": torch.zeros(7),
            "not finite": torch.full_like(saved["state"][0][key], float("nan")),
        }.items():
            state = copy.deepcopy(saved)
            if wrong is None:
                del state["state"][0][key]
            else:
                state["state"][0][key] = wrong
            yield f"{key}: {name}", state
    yield "unknown parameter", saved | {"state": saved["state"] | {9: saved["state"][0]}}


OTHERS = dict(other_optimizers())


@pytest.mark.parametrize("case", OTHERS)
def test_optimizers_that_do_not_fit_are_refused(case):
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        restore_optimizer(optimizer(3, 4, steps=0), OTHERS[case], "model.pth")
