"""The keys that every training reads, and rules between them."""

import pytest

from d2host import CfgNode, get_cfg
from d2host.engine.config import TRAINING_KEYS, check_warmup
from d2host.engine.errors import ConfigError
from d2host.engine.keys import check_keys, declare, with_defaults


def tree(cfg=None, **solver):
    cfg = cfg or CfgNode()
    declare(cfg, with_defaults(TRAINING_KEYS, {f"SOLVER.{name}": value for name, value in solver.items()}))
    return cfg


def test_defaults_can_be_used_and_a_programs_own_win():
    own = tree(MAX_ITER=10)
    check_keys(own, TRAINING_KEYS)
    check_warmup(own)
    assert (own.SOLVER.MAX_ITER, own.SOLVER.CLIP_GRADIENTS.CLIP_TYPE) == (10, "full_model")


def test_keys_join_a_hosts_tree():
    host = tree(get_cfg())
    check_keys(host, TRAINING_KEYS)
    assert host.SOLVER.BASE_LR == tree().SOLVER.BASE_LR and type(host.SOLVER) is type(host)


def test_trees_share_no_lists():
    first, second = tree(BETAS=[0.9, 0.99]), tree(BETAS=[0.9, 0.99])
    first.SOLVER.BETAS[0] = 0.5
    assert second.SOLVER.BETAS[0] == 0.9


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"WARMUP_ITERS": 1000, "MAX_ITER": 500},
            "WARMUP_ITERS 1000 is not below SOLVER.MAX_ITER 500.* instance to 25",
        ),
        ({"WARMUP_ITERS": 500, "MAX_ITER": 500}, "would never reach SOLVER.BASE_LR"),
    ],
)
def test_a_warm_up_ends_before_the_training(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_warmup(tree(**values))
