"""From four blocks of a vision transformer to a pyramid of five maps.

Shape legend
    B     images            D  width of the image tower
    h, w  grid of patches   C  channels of the pyramid
"""

from collections.abc import Sequence

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
        resized = [resize(block) for resize, block in zip(self.resize, blocks, strict=True)]
        return list(self.join({str(level): each for level, each in enumerate(resized)}).values())
