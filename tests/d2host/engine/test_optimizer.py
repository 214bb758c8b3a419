from itertools import pairwise

import pytest
import torch
from torch import nn

from d2host.engine.errors import ConfigError
from d2host.engine.optimizer import OptimizerOptions, build_optimizer
from d2host.engine.schedule import warmup_cosine, warmup_multistep


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"table": nn.Embedding(3, 4), "linear": nn.Linear(4, 4)})
        self.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.tied = self.head[0]


def groups_by_name(model, options):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, options)
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_groups_follow_prefixes_and_kinds_of_layers():
    options = OptimizerOptions(
        lr=1.0,
        weight_decay=0.1,
        weight_decay_norm=0.2,
        weight_decay_embed=0.3,
        lr_multipliers={"encoder.": 0.01, "encoder.linear": 0.5},
        no_decay={"encoder.linear.bias"},
    )
    assert groups_by_name(Model(), options) == {
        "encoder.table.weight": (0.01, 0.3),
        "encoder.linear.weight": (0.5, 0.1),
        "encoder.linear.bias": (0.5, 0.0),
        "head.0.weight": (1.0, 0.1),
        "head.0.bias": (1.0, 0.1),
        "head.1.weight": (1.0, 0.2),
        "head.1.bias": (1.0, 0.2),
    }


def test_frozen_parameters_are_left_out_and_all_frozen_is_refused():
    model = Model()
    model.encoder.requires_grad_(False)
    assert all(name.startswith("head") for name in groups_by_name(model, OptimizerOptions(lr=1.0)))
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter trains: every one of Model has requires_grad False"):
        build_optimizer(model, OptimizerOptions(lr=1.0))


def rates(**options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = warmup_cosine(optimizer, 10, **options)
    seen = []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_schedule_is_half_a_cosine():
    expected = 2 * 0.5 * (1 + torch.cos(torch.pi * torch.arange(10) / 10))
    assert rates() == pytest.approx(expected.tolist())


def test_warm_up_rises_linearly_to_meet_the_cosine():
    seen, plain = rates(warmup_iters=4, warmup_factor=0.1), rates()
    assert seen[4:] == pytest.approx(plain[4:]) and seen[0] == pytest.approx(0.2)
    steps = [later - earlier for earlier, later in pairwise(seen[:5])]
    assert steps == pytest.approx([steps[0]] * 4)


@pytest.mark.parametrize("start", [0, 3, 6])
def test_the_rate_falls_by_a_factor_at_every_step_wherever_it_starts(start):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = warmup_multistep(optimizer, [4, 6], 0.1, warmup_iters=2, warmup_factor=0.5, start_iter=start)
    rates = []
    for _ in range(start, 8):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01][start:])
