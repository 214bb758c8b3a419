"""Upsampling decoder: two up-convolutions guided by intermediate encoder features, then logits per class.

Shape legend
    T     classes             C   channels in           O   channels out         G   guidance channels
    h, w  input grid          2h, 2w output grid

Source: CAT-Seg (CVPR 2024), Sec. 3.3: ConvTranspose 2×2, concatenation with the projected guidance, two 3×3
convolutions with GroupNorm and ReLU.

The first convolution is linear in ``[upsampled, guidance]``: its guidance half, and the constant that the
up-convolution's bias turns into, are the same for every class and computed once per image; its other half composes
with the up-convolution into one transposed convolution.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg.modeling.folding import compute_dtype, upsample_then_convolve

CHANNELS_PER_GROUP = 16  # of the GroupNorms
PRIOR = 0.02  # probability of a class at a pixel before training (initialisation of RetinaNet, ICCV 2017, Sec. 4.1)


class FoldedUpsample(NamedTuple):
    """One stage's weights for one image."""

    kernel: Tensor  # C×O×4×4, the up-convolution and the first convolution as one
    shared: Tensor  # 1×O×2h×2w, the same for every class
    refine: Tensor  # O×O×3×3


class GuidedUpsample(nn.Module):
    """Double the resolution of every class's features, with guidance of the image at the new resolution.

    Args:
        in_channels: C.
        out_channels: O, a multiple of 16 (or smaller than 16).
        guidance_channels: G, less than C.
    """

    def __init__(self, in_channels: int, out_channels: int, guidance_channels: int) -> None:
        super().__init__()
        num_groups = max(out_channels // CHANNELS_PER_GROUP, 1)
        self.up = nn.ConvTranspose2d(in_channels, in_channels - guidance_channels, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, out_channels)

    def fold(self, guidance: Tensor, dtype: torch.dtype) -> FoldedUpsample:
        """Everything that is the same for all classes, for projected guidance 1×G×2h×2w."""
        upsampled_kernel, guidance_kernel = self.conv1.weight.split([self.up.out_channels, guidance.shape[1]], dim=1)
        bias = self.up.bias.view(1, -1, 1, 1).expand(-1, -1, *guidance.shape[-2:])
        shared = F.conv2d(bias, upsampled_kernel, padding=1) + F.conv2d(guidance, guidance_kernel, padding=1)
        kernel = upsample_then_convolve(self.up, upsampled_kernel)
        return FoldedUpsample(kernel.to(dtype), shared.to(dtype), self.conv2.weight.to(dtype))

    def forward(self, x: Tensor, folded: FoldedUpsample) -> Tensor:
        """T×C×h×w (channels last) → T×O×2h×2w."""
        x = F.conv_transpose2d(x, folded.kernel, stride=2, padding=1).add_(folded.shared)
        x = self._norm(self.norm1, x).relu_()
        return self._norm(self.norm2, F.conv2d(x, folded.refine, padding=1)).relu_()

    @staticmethod
    def _norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
        return F.group_norm(x, norm.num_groups, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


class Decoder(nn.Module):
    """Two guided upsampling stages and a 3×3 convolution to one logit per class and pixel.

    Args:
        hidden_dim: channels of the aggregated tokens.
        out_dims: channels after each stage.
        guidance_dims: channels of the projected guidance of each stage.
    """

    def __init__(self, hidden_dim: int, out_dims: tuple[int, int], guidance_dims: tuple[int, int]) -> None:
        super().__init__()
        self.stage1 = GuidedUpsample(hidden_dim, out_dims[0], guidance_dims[0])
        self.stage2 = GuidedUpsample(out_dims[0], out_dims[1], guidance_dims[1])
        self.classify = nn.Conv2d(out_dims[1], 1, kernel_size=3, padding=1)
        nn.init.constant_(self.classify.bias, math.log(PRIOR / (1 - PRIOR)))

    def for_image(self, guidance: tuple[Tensor, Tensor], grid: tuple[int, int]):
        """Prepare one image: the returned function decodes any number of its classes.

        Args:
            guidance: projected guidance 1×G1×2h×2w and 1×G2×4h×4w.
            grid: (h, w).

        Returns:
            A function from T×N×C tokens in raster order to T×4h×4w logits.
        """
        dtype = compute_dtype(guidance[0])
        full = torch.float64 if dtype == torch.float64 else torch.float32
        with torch.autocast(guidance[0].device.type, enabled=False):
            folded1 = self.stage1.fold(guidance[0].to(full), dtype)
            folded2 = self.stage2.fold(guidance[1].to(full), dtype)

        def decode(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                x = x.to(dtype).unflatten(1, grid).permute(0, 3, 1, 2)
                x = self.stage2(self.stage1(x, folded1), folded2)
                weight, bias = self.classify.weight.to(dtype), self.classify.bias.to(dtype)
                return F.conv2d(x, weight, bias, padding=1).squeeze(1)

        return decode
