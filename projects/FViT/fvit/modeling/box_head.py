"""What is in a box, and where its edges are: features of regions, compared with class names.

Shape legend
    N  boxes        K  classes        C  width of the shared image-text space
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from fvit.modeling.norm import SyncBatchNorm
from fvit.modeling.scores import cosines

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))  # one over the standard deviations of deltas


class BoxHead(nn.Module):
    """Shared convolutions and layers, then a branch for the class and one for the box.

    The class is told by cosines with text embeddings, times a temperature that is learned: no weight belongs to a
    class.

    Args:
        channels: of the regions' maps.
        size: their side.
        embed_dim: C.
        convs: 3×3 convolutions.
        temperature: to begin with.
        fixed_temperature: in evaluation, in place of the learned one; 0: the learned one.

    >>> head = BoxHead(channels=16, size=7, embed_dim=32, convs=2)
    >>> logits, deltas = head(torch.randn(5, 16, 7, 7), F.normalize(torch.randn(9, 32), dim=1))
    >>> logits.shape, deltas.shape
    (torch.Size([5, 9]), torch.Size([5, 4]))
    """

    def __init__(
        self,
        channels: int,
        size: int,
        embed_dim: int,
        convs: int = 4,
        temperature: float = 50.0,
        fixed_temperature: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels] * convs, [embed_dim] * 2
        self.shared = FastRCNNConvFCHead((channels, size, size), *widths, norm_layer=SyncBatchNorm)
        self.name = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.ReLU())
        self.place = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Linear(embed_dim, 4))
        self.temperature = nn.Parameter(torch.tensor(temperature))
        self.fixed_temperature = fixed_temperature
        nn.init.normal_(self.place[-1].weight, std=0.001)
        nn.init.zeros_(self.place[-1].bias)

    def forward(self, regions: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits N×K and deltas N×4 of regions, float32.

        Args:
            regions: N×channels×size×size.
            texts: K×C unit vectors.
        """
        shared = self.shared(regions)
        names = F.normalize(self.name(shared).float(), dim=1)
        temperature = self.temperature if self.training or not self.fixed_temperature else self.fixed_temperature
        return temperature * cosines(names, texts), self.place(shared).float()


def classification_loss(logits: Tensor, labels: Tensor, background_weight: float, unused: Tensor) -> Tensor:
    """Softmax cross-entropy, in which background counts less, over the number of boxes.

    Classes that training labels never name take no part: they are no negatives of anything.

    Args:
        logits: N×(K+1), the background last.
        labels: N.
        background_weight: of boxes without an object; those with one have weight 1.
        unused: (K+1) bool, classes that take no part.
    """
    weight = torch.ones(logits.shape[1], device=logits.device)
    weight[-1] = background_weight
    logits = logits.masked_fill(unused, -torch.inf)
    return F.cross_entropy(logits, labels, weight, reduction="sum") / max(len(labels), 1)


def box_loss(deltas: Tensor, boxes: Tensor, objects: Tensor, samples: int) -> Tensor:
    """L1 between deltas of positive boxes P×4 and those that lead to their objects P×4, over the number of samples."""
    return F.l1_loss(deltas, CODER.encode_single(objects.float(), boxes.float()), reduction="sum") / max(samples, 1)
