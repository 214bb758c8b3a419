"""What processes do in test_norm.py: a module of its own, for they import it by name."""

import torch

from d2host import comm
from fvit.modeling.norm import SyncBatchNorm


def normalise(folder):
    """Each process takes an unequal part of a batch and half of a loss; what comes of it is left in a file."""
    rank = comm.get_rank()
    whole, weight = torch.load(folder / "batch.pt", weights_only=True)
    part = (whole[:2], whole[2:])[rank].clone().requires_grad_()
    norm = SyncBatchNorm(whole.shape[1])
    (norm(part) * (weight[:2], weight[2:])[rank]).sum().backward()
    assert norm(whole[:0]).shape == whole[:0].shape  # of no process anything: nothing is learned of it
    content = [part.grad, norm.weight.grad, norm.running_mean, norm.running_var]
    torch.save(content, folder / f"{rank}.pt")
