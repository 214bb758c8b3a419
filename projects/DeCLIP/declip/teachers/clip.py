"""CLIP as a teacher of the content feature: what its class token says about crops.

Shape legend
    K  crops        c  side of the crops, pixels        C  width of the shared image-text space
"""

import torch
from torch import Tensor, nn

from d2host.engine.precision import Precision
from declip.models.encoder import DenseCLIP
from declip.teachers.base import FrozenTeacher, Views
from declip.teachers.targets import CropEmbeddings


class ClipTeacher(FrozenTeacher):
    """The frozen original: class tokens of crops.

    Args:
        encoder: an encoder of its own, not the student.
        crops_at_once: crops encoded together.
        precision: of the weights of linear layers and convolutions. That of autocast changes no result, and saves
            both their memory and casting them in every step.

    >>> from declip import build_encoder
    >>> teacher = ClipTeacher(build_encoder("nano", "nano-clip"))
    >>> teacher(torch.rand(5, 3, 64, 64) * 255).shape
    torch.Size([5, 128])
    """

    gives = CropEmbeddings

    def __init__(self, encoder: DenseCLIP, crops_at_once: int = 64, precision: Precision = Precision.FP32) -> None:
        super().__init__()
        self.encoder, self.crops_at_once = encoder, crops_at_once
        for layer in encoder.clip.visual.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.to(precision.dtype)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        """K×3×c×c crops in 0..255 → K×C class tokens, float32."""
        pieces = crops.split(self.crops_at_once)
        return torch.cat([self.encoder.encode_image(self.encoder.normalize(piece)).float() for piece in pieces])

    def teach(self, views: Views) -> CropEmbeddings:
        """Class tokens of the crops of images, with the boxes they show."""
        return CropEmbeddings(views.boxes, self(views.crops))
