"""nano-CLIP's training: photos and captions that belong together, by open_clip's model and loss.

Shape legend
    B  scenes of a batch      P  photos of a scene
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import ClipLoss
from timm.layers import DropPath
from torch import Tensor, nn

from d2host import comm
from declip.models.encoder import DenseCLIP
from declip.models.factory import RANDOM, build_encoder
from declip.models.weights import save_encoder
from declip.weights.files import half_precision
from nanoworld.attention_backend import quick_attention
from nanoworld.evaluation import close_up_accuracy
from nanoworld.plugin import NANO
from nanoworld.pretraining.growing import grow
from nanoworld.world import Scene

HIGHEST_SCALE = 100.0  # of the logits, as in CLIP


class ContrastivePretraining(nn.Module):
    """Batch in, contrastive loss out.

    Photos may be smaller than the encoder's native size: as in CLIPA (NeurIPS 2023), most of the training sees small
    photos, which cost a fraction, and a short run on native ones ends it.

    Args:
        encoder: name of the encoder.
        weights: file to start from; empty: random weights.
        grow_from: weights of ``nano`` to start from instead, every block of it as two, see
            :func:`nanoworld.pretraining.growing.grow`.
        drop_path: stochastic depth (ECCV 2016): the share of the photos that pass by the last block's two layers;
            it grows linearly from 0 at the first block.

    Source: CLIP (2021), Fig. 3.
    """

    def __init__(self, encoder: str = NANO, weights: str = "", grow_from: str = "", drop_path: float = 0.0) -> None:
        super().__init__()
        self.encoder: DenseCLIP = build_encoder(encoder, weights or RANDOM, context="vanilla")
        if grow_from:
            grow(self.encoder, build_encoder(NANO, grow_from, context="vanilla"))
        if drop_path:
            blocks = self.encoder.clip.visual.transformer.resblocks
            for block, rate in zip(blocks, torch.linspace(0, drop_path, len(blocks)).tolist(), strict=True):
                block.ls_1, block.ls_2 = DropPath(rate), DropPath(rate)  # where layer scale would be: on the branches

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

    def evaluate(self, scenes: Iterable[Scene]) -> dict[str, float]:
        """Close-up accuracy, see :func:`nanoworld.evaluation.close_up_accuracy`."""
        return close_up_accuracy(self.encoder, scenes)

    def export(self, path: Path, facts: dict[str, object]) -> Path:
        """Write the weights as ``MODEL.ENCODER.WEIGHTS`` takes them."""
        return save_encoder(self.encoder, path, half_precision(self.encoder.clip.state_dict()), **facts)

    def load(self, path: str) -> None:
        """Take the weights of a file, or shipped ones by name."""
        self.encoder.load_state_dict(build_encoder(self.encoder.name, path, context="vanilla").state_dict())
