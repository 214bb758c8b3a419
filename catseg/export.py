"""CAT-Seg with a fixed vocabulary as one program."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from catseg.modeling import CATSeg


class SegmentationProgram(nn.Module):
    """An image in 0..255 in, logits of every class of a vocabulary out; to be exported with a batch of one.

    Args:
        model: in evaluation mode.
        vocabulary: the classes; their embeddings become part of the program.
    """

    def __init__(self, model: CATSeg, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.sem_seg_head, self.blocks = model.encoder, model.sem_seg_head, model.blocks
        with torch.no_grad():
            self.register_buffer("text_features", model.class_embeddings(model.encoder, vocabulary).clone())

    def forward(self, image: Tensor) -> Tensor:
        """1×3×S×S RGB in 0..255, S the side that the model's encoder sees → 1×K×4g×4g logits."""
        features = self.encoder.encode_dense(self.encoder.normalize(image), self.blocks)
        hidden = [features.hidden[block] for block in self.blocks]
        return self.sem_seg_head(features.content, hidden, self.text_features)
