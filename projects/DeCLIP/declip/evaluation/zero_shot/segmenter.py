"""From images to labels by the cosine of patch features and class names.

Shape legend
    N  names        T  classes        h, w  patches        H, W  labels
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from declip.evaluation.zero_shot.patches import PatchEncoder
from declip.evaluation.zero_shot.protocol import Protocol
from declip.evaluation.zero_shot.vocabulary import Vocabulary
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP

CHUNK_PIXELS = 2**23  # scores (names times pixels) that exist at a time


class ZeroShotSegmenter(PatchEncoder):
    """Segments images into the classes of a vocabulary, as DeCLIP's Table 5 evaluates encoders.

    Args:
        encoder, protocol, windows_at_once: see :class:`PatchEncoder`.
        embeddings: N×C unit vectors of :attr:`Vocabulary.names`.
        vocabulary: what they stand for.
    """

    def __init__(
        self,
        encoder: DenseCLIP,
        embeddings: Tensor,
        vocabulary: Vocabulary,
        protocol: Protocol,
        windows_at_once: int = 16,
    ) -> None:
        super().__init__(encoder, protocol, windows_at_once)
        self.vocabulary = vocabulary
        self.register_buffer("embeddings", embeddings, persistent=False)
        owners = torch.tensor(vocabulary.owners, device=embeddings.device)
        self.register_buffer("owners", owners, persistent=False)

    @torch.no_grad()
    def forward(self, batch: Sequence[dict]) -> list[dict]:
        """Labels of every image of a batch under the encoder's context type.

        Args:
            batch: dicts with ``image`` 3×h×w in 0..255, and ``height`` and ``width`` of the labels wanted.

        Returns:
            Per image ``sem_seg``: H×W int64.

        Raises:
            CheckpointError: features of an image are not finite, or zero.
        """
        return self.by_context(batch, (self.encoder.context,))[self.encoder.context]

    @torch.no_grad()
    def by_context(
        self, batch: Sequence[dict], contexts: Sequence[ContextType | Context]
    ) -> dict[ContextType | Context, list[dict]]:
        """What :meth:`forward` gives under each of several context types, running the blocks before the last once."""
        results: dict[ContextType | Context, list[dict]] = {context: [] for context in contexts}
        background = self.vocabulary.background if self.protocol.threshold > 0 else None
        for sample, found in zip(batch, self.encode(batch, contexts), strict=True):
            size = sample["height"], sample["width"]
            for context, patches in found.items():
                cosines, way_back = patches.cosines(self.embeddings), patches.way_back(size)
                scale, unsure = self.protocol.logit_scale, background is not None
                labels, probability = most_probable(cosines, way_back, self.owners, scale, unsure)
                if probability is not None:
                    labels[probability < self.protocol.threshold] = background
                results[context].append({"sem_seg": labels})
        return results


def most_probable(
    cosines: Tensor, way_back: tuple[Tensor, Tensor], owners: Tensor, logit_scale: float, with_probability: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The class of the most probable name at every pixel, in strips and name by name: memory does not grow with N.

    Args:
        cosines: N×h×w, of the patches.
        way_back: see :meth:`declip.models.patch_map.PatchMap.way_back`.
        owners: N, the class of each name.
        logit_scale: factor on the cosines before the softmax over names.
        with_probability: whether that name's probability is wanted.

    Returns:
        H×W int64 classes, and H×W probabilities.
    """
    rows, columns = (matrix.to(cosines.dtype) for matrix in way_back)
    strips = []
    for strip in rows.split(max(CHUNK_PIXELS // len(columns), 1)):
        best = cosines.new_full((len(strip), len(columns)), float("-inf"))
        labels, total, first = torch.zeros(best.shape, dtype=torch.long, device=best.device), best, 0
        for chunk in cosines.split(max(CHUNK_PIXELS // best.numel(), 1)):
            with torch.autocast(best.device.type, enabled=False):
                scores = logit_scale * (strip @ chunk @ columns.T)
            value, index = scores.max(dim=0)
            better = value > best
            best, labels = torch.where(better, value, best), torch.where(better, owners[index + first], labels)
            if with_probability:
                total = torch.logaddexp(total, scores.logsumexp(dim=0))
            first += len(chunk)
        strips.append((labels, (best - total).exp() if with_probability else None))
    labels = torch.cat([strip for strip, _ in strips])
    return labels, torch.cat([probability for _, probability in strips]) if with_probability else None
