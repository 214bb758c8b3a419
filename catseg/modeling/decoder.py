"""Upsampling decoder: two up-convolutions guided by intermediate encoder features, then logits per class.

Shape legend
    B     images              C   channels in           O   channels out         G   guidance channels
    T     classes             h, w  input grid          2h, 2w output grid

Source: CAT-Seg (CVPR 2024), Sec. 3.3: ConvTranspose 2×2, concatenation with the projected guidance, two 3×3
convolutions with GroupNorm and ReLU.

The first convolution, over ``[upsampled, guidance]``, is the sum of a convolution of each. They are two layers here,
and that of the guidance, which is the same for every class, runs once per image.
"""

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

CHANNELS_PER_GROUP = 16  # of the GroupNorms
PRIOR = 0.02  # probability of a class at a pixel before training (initialisation of RetinaNet, ICCV 2017, Sec. 4.1)


class GuidedUpsample(nn.Module):
    """Every class's features at twice the resolution, with guidance of the image at the new resolution.

    Args:
        in_channels: C.
        out_channels: O, a multiple of 16 (or smaller than 16).
        guidance_channels: G, less than C.
    """

    def __init__(self, in_channels: int, out_channels: int, guidance_channels: int) -> None:
        super().__init__()
        num_groups = max(out_channels // CHANNELS_PER_GROUP, 1)
        upsampled = in_channels - guidance_channels
        self.up = nn.ConvTranspose2d(in_channels, upsampled, kernel_size=2, stride=2)
        whole = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(upsampled, out_channels, kernel_size=3, padding=1, bias=False)
        self.conv1_guidance = nn.Conv2d(guidance_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.conv1.weight.data, self.conv1_guidance.weight.data = (
            half.clone() for half in whole.weight.data.split([upsampled, guidance_channels], dim=1)
        )
        self.norm1 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, out_channels)

    def prepare(self, guidance: Tensor) -> Tensor:
        """What is the same for all classes, B×O×2h×2w, for projected guidance B×G×2h×2w."""
        return self.conv1_guidance(guidance)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(B*T)×C×h×w (channels last) → (B*T)×O×2h×2w."""
        x = self.conv1(self.up(x)).unflatten(0, (len(guidance), -1)) + guidance.unsqueeze(1)
        x = F.relu(self.norm1(x.flatten(0, 1)))
        return F.relu(self.norm2(self.conv2(x)))


class Decoder(nn.Module):
    """Two guided upsampling stages and a 3×3 convolution to one logit per class and pixel.

    Args:
        stage1, stage2: see :class:`GuidedUpsample`.
        classify: convolution from the second stage's channels to one.
    """

    def __init__(self, stage1: nn.Module, stage2: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.stage1, self.stage2, self.classify = stage1, stage2, classify

    def prepare(self, guidance: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What is the same for all classes, for projected guidance B×G1×2h×2w and B×G2×4h×4w."""
        return self.stage1.prepare(guidance[0]), self.stage2.prepare(guidance[1])

    def forward(self, x: Tensor, guidance: tuple[Tensor, Tensor], grid: tuple[int, int]) -> Tensor:
        """B×T×N×C tokens of a grid (h, w) in raster order → B×T×4h×4w logits."""
        batch, x = len(x), rearrange(x, "b t (h w) c -> (b t) c h w", h=grid[0])
        x = self.stage2(self.stage1(x, guidance[0]), guidance[1])
        return rearrange(self.classify(x), "(b t) 1 h w -> b t h w", b=batch)


def logit_layer(channels: int) -> nn.Conv2d:
    """A 3×3 convolution to one logit, whose bias expects few pixels of any class."""
    layer = nn.Conv2d(channels, 1, kernel_size=3, padding=1)
    nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))
    return layer
