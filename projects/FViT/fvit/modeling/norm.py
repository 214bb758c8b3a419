"""Batch normalisation over all processes."""

import torch
from torch import Tensor, nn

from d2host import comm
from d2host.engine.parallel import sum_over_processes


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of what all processes see together, on any device.

    torch's own is for GPUs alone. In a single process, and in evaluation, this is :class:`torch.nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W normalised per channel; N may differ between processes."""
        if not self.training or comm.get_world_size() == 1:
            return super().forward(x)
        values = x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3)), count])
        *moments, count = sum_over_processes(sums).split([x.shape[1], x.shape[1], 1])
        if not count:  # no process has anything to normalise, such as regions of objects where no image has one
            return x * self.weight[:, None, None] + self.bias[:, None, None]
        mean, square = (moment / count for moment in moments)
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
