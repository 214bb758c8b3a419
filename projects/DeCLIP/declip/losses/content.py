"""The content loss: the features of a region mean what CLIP sees in that region.

Shape legend
    B     images              C  width of the shared image-text space
    h, w  grid of tokens      K  crops of all the images
"""

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from declip.losses.base import DistillationLoss, StudentFeature, TermLoss
from declip.models.features import DenseFeatures
from declip.teachers.targets import CropEmbeddings


class ContentLoss(DistillationLoss):
    """``1 - mean_k cos(RoIAlign(X_content, box_k), CLS(crop_k))`` over the crops k of an image, mean over images.

    Source: DeCLIP (CVPR 2025), Eq. 7.

    Args:
        patch_size: pixels per token of the student.

    >>> features = DenseFeatures(content=torch.randn(1, 512, 4, 6), context=(), hidden={})
    >>> boxes = torch.tensor([[0.0, 0.0, 48.0, 64.0], [48.0, 0.0, 96.0, 64.0]])  # the halves of a view of 64×96 pixels
    >>> loss = ContentLoss(patch_size=16)(features, CropEmbeddings((boxes,), torch.randn(2, 512)))
    >>> bool(0 <= loss.value <= 2)
    True
    """

    feature = StudentFeature.CONTENT
    needs = (CropEmbeddings,)

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, features: DenseFeatures, crops: CropEmbeddings) -> TermLoss:
        """Distance in [0, 2] between dense features of regions and embeddings of the same regions as images.

        Args:
            features: with ``content`` B×C×h×w.
            crops: boxes per image, and K×C embeddings.

        Raises:
            ValueError: boxes and embeddings differ in number, or an image has none.
        """
        content, counts = features.content, [len(each) for each in crops.boxes]
        if sum(counts) != len(crops.embeddings) or not all(counts):
            raise ValueError(f"crops have {counts} boxes for {len(crops.embeddings)} embeddings: each box needs one")
        with torch.autocast(content.device.type, enabled=False):
            full = torch.promote_types(content.dtype, torch.float32)
            boxes = [each.to(content.device, full) for each in crops.boxes]
            regions = roi_align(content.to(full), boxes, output_size=1, spatial_scale=1 / self.patch_size, aligned=True)
            cosines = F.cosine_similarity(regions.flatten(1), crops.embeddings.to(full), dim=1)
            return TermLoss(1 - torch.stack([each.mean() for each in cosines.split(counts)]).mean())
