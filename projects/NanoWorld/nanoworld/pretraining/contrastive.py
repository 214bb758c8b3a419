"""nano-CLIP's training: photos and captions that belong together, by open_clip's model and loss.

Shape legend
    B  scenes of a batch      P  photos of a scene
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip import ClipLoss
from torch import Tensor, nn

from d2host import comm
from declip.models.encoder import DenseCLIP
from declip.models.factory import RANDOM, build_encoder
from nanoworld.attention_backend import quick_attention

HIGHEST_SCALE = 100.0  # of the logits, as in CLIP


class ContrastivePretraining(nn.Module):
    """Batch in, contrastive loss out.

    Photos may be smaller than the encoder's native size: as in CLIPA (NeurIPS 2023), most of the training sees small
    photos, which cost a fraction, and a short run on native ones ends it.

    Args:
        weights: file to start from; empty: random weights.

    Source: CLIP (2021), Fig. 3.
    """

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        self.encoder: DenseCLIP = build_encoder("nano", weights or RANDOM, context="vanilla")

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """``loss_contrastive`` over all photos of all processes.

        Args:
            batch: B samples of :class:`nanoworld.pretraining.scenes.CaptionedPhotos`.
        """
        device = self.encoder.pixel_mean.device
        photos = torch.cat([sample["photos"] for sample in batch]).to(device)
        tokens = torch.cat([sample["tokens"] for sample in batch]).to(device)
        with quick_attention(device):
            image = F.normalize(self.encoder.encode_image(self.encoder.normalize(photos)).float(), dim=1)
            text = F.normalize(self.encoder.encode_text(tokens).float(), dim=1)
        scale = self.encoder.clip.logit_scale.exp().clamp(max=HIGHEST_SCALE)
        loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=comm.get_rank(), world_size=comm.get_world_size())
        return {"loss_contrastive": loss(image, text, scale)}
