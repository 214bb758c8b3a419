"""The keys that every training reads, and values that no training can use."""

import pytest

from d2host import CfgNode, get_cfg
from d2host.engine.config import add_run_config, add_solver_config, check_solver
from d2host.engine.errors import ConfigError


def solver(**values):
    cfg = CfgNode()
    add_run_config(cfg)
    add_solver_config(cfg, **values)
    return cfg


def test_defaults_can_be_used_and_a_programs_own_win():
    check_solver(solver())
    own = solver(MAX_ITER=10, CLIP_GRADIENTS={"ENABLED": True, "CLIP_VALUE": 0.5})
    check_solver(own)
    assert (own.SOLVER.MAX_ITER, own.SOLVER.CLIP_GRADIENTS.CLIP_VALUE) == (10, 0.5)
    assert own.SOLVER.CLIP_GRADIENTS.CLIP_TYPE == "full_model"


def test_the_block_takes_the_place_of_the_hosts():
    cfg = get_cfg()
    add_run_config(cfg)
    add_solver_config(cfg)
    assert cfg.SOLVER == solver().SOLVER


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"WARMUP_ITERS": 1000, "MAX_ITER": 500},
            "WARMUP_ITERS 1000 is not below SOLVER.MAX_ITER 500.* instance to 25",
        ),
        ({"WARMUP_ITERS": 500, "MAX_ITER": 500}, "would never reach SOLVER.BASE_LR"),
        ({"WARMUP_ITERS": -1}, "SOLVER.WARMUP_ITERS is -1: it must be at least 0"),
        ({"WARMUP_FACTOR": 1.5}, r"SOLVER.WARMUP_FACTOR is 1.5: it must be in \[0, 1\]"),
        ({"BASE_LR": -1e-4}, "SOLVER.BASE_LR is -0.0001: it must be a finite number above 0"),
        ({"BASE_LR": 0.0}, "SOLVER.BASE_LR is 0.0: it must be a finite number above 0"),
        ({"BASE_LR": float("nan")}, "SOLVER.BASE_LR is nan: it must be a finite number"),
        ({"WEIGHT_DECAY": -0.1}, "SOLVER.WEIGHT_DECAY is -0.1: it must be at least 0"),
        ({"WEIGHT_DECAY": float("inf")}, "SOLVER.WEIGHT_DECAY is inf: it must be a finite number"),
        ({"EPS": 0.0}, "SOLVER.EPS is 0.0: it must be a finite number above 0"),
        ({"BETAS": (0.9, 1.0)}, "SOLVER.BETAS is .*two numbers in"),
        ({"BETAS": (0.9,)}, "SOLVER.BETAS is .*two numbers in"),
        ({"MAX_CHECKPOINTS": -1}, "SOLVER.MAX_CHECKPOINTS is -1: it must be at least 0"),
        ({"CHECKPOINT_PERIOD": -5}, "SOLVER.CHECKPOINT_PERIOD is -5: it must be at least 0"),
        ({"ACCUMULATION_STEPS": 0}, "SOLVER.ACCUMULATION_STEPS is 0: it must be at least 1"),
        (
            {"CLIP_GRADIENTS": {"ENABLED": True, "CLIP_VALUE": 0.0}},
            "CLIP_VALUE is 0.0: it must be a finite number above",
        ),
        ({"CLIP_GRADIENTS": {"CLIP_TYPE": "value"}}, "CLIP_TYPE 'value' is unknown"),
        ({"AMP": {"DTYPE": "fp8"}}, "SOLVER.AMP.DTYPE 'fp8' is unknown"),
    ],
)
def test_what_no_training_can_use_is_refused_by_key(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_solver(solver(**values))
