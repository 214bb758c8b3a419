"""What an encoder found in one image, kept for any number of questions about it.

Shape legend
    C     channels of the shared image-text space        N  names        T  maps
    h, w  patches of all windows, laid side by side      H, W  result, pixels
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from declip.models.windows import WindowGrid


@dataclass(frozen=True)
class PatchMap:
    """Directions of an image's patches in the space of text embeddings.

    What is asked of them is linear in the features, and so is the way from patches to pixels (see
    :mod:`declip.models.windows`): answers for pixels cost two small matrix products a map.

    Attributes:
        directions: C×h×w unit vectors, float32.
        grid: where the patches lie in the image.

    >>> directions = torch.nn.functional.normalize(torch.randn(6, 4, 8), dim=0)
    >>> patches = PatchMap(directions, WindowGrid.of((32, 64), window=0, stride=1, patch_size=8))
    >>> patches.enlarge(patches.cosines(torch.eye(6)), (30, 60)).shape
    torch.Size([6, 30, 60])
    >>> mask = torch.zeros(30, 60, dtype=torch.bool)
    >>> mask[:10, :10] = True
    >>> patches.mean(mask).shape
    torch.Size([6])
    """

    directions: Tensor
    grid: WindowGrid

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Cosines of all patches with unit vectors N×C: N×h×w."""
        with torch.autocast(self.directions.device.type, enabled=False):
            return torch.einsum("chw,nc->nhw", self.directions, embeddings)

    def way_back(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The matrices H×h and W×w between which a map of the patches becomes one of (H, W) pixels."""
        return self.grid.way_back(size, self.directions.device)

    def enlarge(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps of the patches T×h×w → T×H×W, bilinear within windows, their mean where windows overlap."""
        rows, columns = self.way_back(size)
        with torch.autocast(maps.device.type, enabled=False):
            return rows @ maps @ columns.T

    def mean(self, mask: Tensor) -> Tensor:
        """The mean of the directions, enlarged to the H×W pixels of a mask, over the pixels that it marks: C.

        Exact without enlarging anything: the mask takes the way back to the patches instead.
        """
        rows, columns = self.way_back(tuple(mask.shape))
        weights = rows.T @ mask.to(rows) @ columns
        return (self.directions * (weights / weights.sum())).sum(dim=(1, 2))
