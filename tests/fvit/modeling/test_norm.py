import importlib
from pathlib import Path

import torch
from torch import nn

from d2host.engine.distributed import launch
from tests.running import several_processes


@several_processes
def test_two_processes_normalise_as_one(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    torch.manual_seed(0)
    batch, weight = 3 * torch.randn(5, 4, 3, 3) + 2, torch.randn(5, 4, 3, 3)
    torch.save([batch, weight], tmp_path / "batch.pt")
    launch(importlib.import_module("norm_ranks").normalise, 2, (tmp_path,))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    norm, whole = nn.BatchNorm2d(4), batch.clone().requires_grad_()
    (norm(whole) * weight).sum().backward()
    torch.testing.assert_close(torch.cat([first[0], second[0]]), whole.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first[1] + second[1], norm.weight.grad, atol=1e-4, rtol=1e-4)
    for each in (first, second):
        torch.testing.assert_close(each[2:], [norm.running_mean, norm.running_var])
