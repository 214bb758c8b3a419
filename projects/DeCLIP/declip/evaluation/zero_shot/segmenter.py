"""From images to labels by the cosine of patch features and class names.

Shape legend
    N  names        T  classes        C  width of the shared image-text space        K  context types
    n  windows      g  patches along a window's side        H, W  labels
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from d2host.engine.tensors import check_finite
from declip.data.batching import group_by_shape
from declip.data.mapper import TestMapper
from declip.evaluation.zero_shot.protocol import Protocol
from declip.evaluation.zero_shot.vocabulary import Vocabulary
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.features import DenseFeatures
from declip.models.stitching import encode_stitched
from declip.models.windows import WindowGrid

CHUNK_PIXELS = 2**23  # scores (names times pixels) that exist at a time
MOST_PATCHES = {"whole": 2**13, "windows": 2**15}  # of an image that is not resized, as it is seen
MOST_SHORT_SIDES = 8  # that the longer side of a resized image is long


class ZeroShotSegmenter(nn.Module):
    """Segments images into the classes of a vocabulary, as DeCLIP's Table 5 evaluates encoders.

    Args:
        encoder: gives dense features.
        embeddings: N×C unit vectors of :attr:`Vocabulary.names`.
        vocabulary: what they stand for.
        protocol: how images are looked at.
        windows_at_once: windows encoded together, of one image or several.
    """

    def __init__(
        self,
        encoder: DenseCLIP,
        embeddings: Tensor,
        vocabulary: Vocabulary,
        protocol: Protocol,
        windows_at_once: int = 16,
    ) -> None:
        super().__init__()
        self.encoder, self.vocabulary, self.protocol = encoder, vocabulary, protocol
        self.windows_at_once = windows_at_once
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.register_buffer("owners", torch.tensor(vocabulary.owners), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return self.encoder.pixel_mean.device

    @property
    def mapper(self) -> TestMapper:
        """Resizes images as :class:`Protocol` says; time and memory are bounded whatever the image's size and shape."""
        most_pixels = MOST_PATCHES["windows" if self.protocol.window else "whole"] * self.encoder.patch_size**2
        long_side = MOST_SHORT_SIDES * (self.protocol.short_side or round(most_pixels**0.5))
        return TestMapper(self.protocol.short_side, long_side, most_pixels)

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
        protocol, patch_size = self.protocol, self.encoder.patch_size
        images = [self.encoder.normalize(sample["image"].to(self.device)) for sample in batch]
        sizes = [(sample["height"], sample["width"]) for sample in batch]
        results: dict[ContextType | Context, list[dict]] = {context: [{} for _ in batch] for context in contexts}
        window = 0 if protocol.stitch else protocol.window  # what is stitched is decided on as one window
        grids = [WindowGrid.of(image.shape[-2:], window, protocol.stride, patch_size) for image in images]
        windows = [grid.cut(image) for grid, image in zip(grids, images, strict=True)]
        for group in group_by_shape(each[0] for each in windows):
            if protocol.stitch:
                logits = torch.cat([self._stitched(windows[index][0], contexts) for index in group])
            else:
                chunks = torch.cat([windows[index] for index in group]).split(self.windows_at_once)
                features = (self.encoder.encode_contexts(chunk, contexts) for chunk in chunks)
                logits = torch.cat([self._cosines(each.values()) for each in features])
            for index, own in zip(group, logits.split([len(windows[index]) for index in group]), strict=True):
                # what keeps a patch from having cosines keeps it from all of them: those with one name tell
                check_finite(own[:, :, 0], f"the features of {batch[index].get('file_name', 'the image')}")
                way_back = grids[index].way_back(sizes[index], self.device)
                for context, values in zip(contexts, own.unbind(dim=1), strict=True):
                    labels = self._decide(grids[index].lay_out(values), way_back)
                    results[context][index]["sem_seg"] = labels
        return results

    def _stitched(self, image: Tensor, contexts: Sequence[ContextType | Context]) -> Tensor:
        """Cosines of the patches of an image 3×H×W, whose windows meet in the last block: 1×K×N×h×w."""
        protocol = self.protocol
        looks = {"window": protocol.window, "stride": protocol.stride, "windows_at_once": self.windows_at_once}
        return self._cosines(encode_stitched(self.encoder, image, contexts=contexts, **looks).values())

    def _cosines(self, features: Iterable[DenseFeatures]) -> Tensor:
        """Cosines of patches with all names, n×K×N×g×g, by their features under each context; NaN where one has no
        direction."""
        content = torch.stack([each.content.float() for each in features], dim=1)
        content = content / content.norm(dim=2, keepdim=True)
        with torch.autocast(content.device.type, enabled=False):
            return torch.einsum("bkchw,nc->bknhw", content, self.embeddings)

    def _decide(self, patches: Tensor, way_back: tuple[Tensor, Tensor]) -> Tensor:
        """The most probable class of every pixel, in strips and name by name so that scores do not grow with N.

        Args:
            patches: cosines N×(R*g)×(C*g).
            way_back: of :meth:`WindowGrid.way_back`.

        Returns:
            H×W int64.
        """
        rows, columns = (matrix.to(patches.dtype) for matrix in way_back)
        strips = rows.split(max(CHUNK_PIXELS // len(columns), 1))
        return torch.cat([self._decide_strip(patches, strip, columns) for strip in strips])

    def _decide_strip(self, patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        best = patches.new_full((len(rows), len(columns)), float("-inf"))
        labels = torch.zeros(best.shape, dtype=torch.long, device=best.device)
        needs_probability = self.protocol.threshold > 0 and self.vocabulary.background is not None
        total = torch.full_like(best, float("-inf")) if needs_probability else None
        first = 0
        for chunk in patches.split(max(CHUNK_PIXELS // best.numel(), 1)):
            with torch.autocast(best.device.type, enabled=False):
                scores = self.protocol.logit_scale * (rows @ chunk @ columns.T)
            value, index = scores.max(dim=0)
            better = value > best
            best, labels = torch.where(better, value, best), torch.where(better, self.owners[index + first], labels)
            if total is not None:
                total = torch.logaddexp(total, scores.logsumexp(dim=0))
            first += len(chunk)
        if total is not None:
            labels[(best - total).exp() < self.protocol.threshold] = self.vocabulary.background
        return labels
