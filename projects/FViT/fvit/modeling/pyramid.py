"""From four blocks of a vision transformer to a pyramid of five maps.

Shape legend
    B     images            D  width of the image tower
    h, w  grid of patches   C  channels of the pyramid
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from fvit.modeling.norm import SyncBatchNorm

SCALES = (4.0, 2.0, 1.0, 0.5, 0.25)  # maps' sides over those of the grid of patches


def pyramid_strides(patch: int) -> list[float]:
    """Pixels between features of each level of a pyramid over patches of that side.

    >>> pyramid_strides(16), pyramid_strides(14)
    ([4.0, 8.0, 16.0, 32.0, 64.0], [3.5, 7.0, 14.0, 28.0, 56.0])
    """
    return [patch / scale for scale in SCALES]


class Pyramid(nn.Module):
    """Block outputs brought to 4, 2, 1 and 1/2 of their resolution, and joined from the coarsest to the finest.

    Args:
        width: D.
        channels: C.

    >>> maps = Pyramid(width=32, channels=16)([torch.randn(2, 32, 8, 8)] * 4)
    >>> [tuple(each.shape[1:]) for each in maps]
    [(16, 32, 32), (16, 16, 16), (16, 8, 8), (16, 4, 4), (16, 2, 2)]
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.resize = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width, 2, stride=2),
                    SyncBatchNorm(width),
                    nn.GELU(),
                    nn.ConvTranspose2d(width, width, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, width, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.join = FeaturePyramidNetwork([width] * 4, channels, LastLevelMaxPool(), norm_layer=SyncBatchNorm)

    def forward(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Four maps B×D×h×w, of early blocks first → five of C channels, the finest, 4h×4w, first."""
        if not self.training and not torch.is_grad_enabled():
            return self._composed(blocks)
        resized = [resize(block) for resize, block in zip(self.resize, blocks, strict=True)]
        return list(self.join({str(level): each for level, each in enumerate(resized)}).values())

    def _composed(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """The same, in which the transposed convolution and the projection that follows it are one.

        Both are linear: the wide map between them, four times as large as its input, is never made.
        """
        finest, fine, same, coarse = self.resize
        laterals = [
            _up_and_project(finest[:3](blocks[0]), finest[3], self.join.inner_blocks[0]),
            _up_and_project(blocks[1], fine, self.join.inner_blocks[1]),
            self.join.inner_blocks[2](same(blocks[2])),
            self.join.inner_blocks[3](coarse(blocks[3])),
        ]
        for level in (2, 1, 0):
            above = F.interpolate(laterals[level + 1], size=laterals[level].shape[-2:], mode="nearest")
            laterals[level] = laterals[level] + above
        maps = [block(lateral) for block, lateral in zip(self.join.layer_blocks, laterals, strict=True)]
        return self.join.extra_blocks(maps, laterals, [])[0]


def _up_and_project(x: Tensor, up: nn.ConvTranspose2d, project: nn.Sequential) -> Tensor:
    """A transposed convolution, then a 1×1 convolution and its normalisation in evaluation, as one layer."""
    convolution, norm = project
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    matrix = scale[:, None] * convolution.weight[:, :, 0, 0]
    weight = torch.einsum("imhw,cm->ichw", up.weight, matrix)
    bias = matrix @ up.bias + norm.bias - norm.running_mean * scale
    return F.conv_transpose2d(x, weight, bias, stride=up.stride)
