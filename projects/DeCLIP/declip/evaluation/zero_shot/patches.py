"""From images to the directions of their patches, as a protocol looks at images.

Shape legend
    C  width of the shared image-text space        K  context types
    n  windows      g  patches along a window's side
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from d2host.engine.tensors import check_finite
from declip.data.batching import group_by_shape
from declip.data.mapper import TestMapper
from declip.evaluation.zero_shot.protocol import Protocol
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.features import DenseFeatures
from declip.models.patch_map import PatchMap
from declip.models.stitching import encode_stitched
from declip.models.windows import WindowGrid

MOST_PATCHES = {"whole": 2**13, "windows": 2**15}  # of an image that is not resized, as it is seen
MOST_SHORT_SIDES = 8  # that the longer side of a resized image is long


class PatchEncoder(nn.Module):
    """Looks at images through the windows of a protocol.

    Args:
        encoder: gives dense features.
        protocol: how images are looked at.
        windows_at_once: windows encoded together, of one image or several.
    """

    def __init__(self, encoder: DenseCLIP, protocol: Protocol, windows_at_once: int = 16) -> None:
        super().__init__()
        self.encoder, self.protocol, self.windows_at_once = encoder, protocol, windows_at_once

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
    def encode(
        self, batch: Sequence[dict], contexts: Sequence[ContextType | Context]
    ) -> list[dict[ContextType | Context, PatchMap]]:
        """The patches of every image of a batch under each of several contexts, which share all blocks but the last.

        Args:
            batch: dicts with ``image`` 3×h×w in 0..255.
            contexts: what the last block attends by.

        Raises:
            CheckpointError: features of an image are not finite, or zero.
        """
        protocol, patch_size = self.protocol, self.encoder.patch_size
        images = [self.encoder.normalize(sample["image"].to(self.device)) for sample in batch]
        window = 0 if protocol.stitch else protocol.window  # what is stitched is decided on as one window
        grids = [WindowGrid.of(image.shape[-2:], window, protocol.stride, patch_size) for image in images]
        windows = [grid.cut(image) for grid, image in zip(grids, images, strict=True)]
        found: list[dict[ContextType | Context, PatchMap]] = [{} for _ in batch]
        for group in group_by_shape(each[0] for each in windows):
            if protocol.stitch:
                directions = torch.cat([self._stitched(windows[index][0], contexts) for index in group])
            else:
                chunks = torch.cat([windows[index] for index in group]).split(self.windows_at_once)
                features = (self.encoder.encode_contexts(chunk, contexts) for chunk in chunks)
                directions = torch.cat([_directions(each.values()) for each in features])
            for index, own in zip(group, directions.split([len(windows[index]) for index in group]), strict=True):
                # what keeps a patch from having a direction is in the sum of its channels
                check_finite(own.sum(dim=2), f"the features of {batch[index].get('file_name', 'the image')}")
                for context, values in zip(contexts, own.unbind(dim=1), strict=True):
                    found[index][context] = PatchMap(grids[index].lay_out(values), grids[index])
        return found

    def _stitched(self, image: Tensor, contexts: Sequence[ContextType | Context]) -> Tensor:
        """Directions of the patches of an image 3×H×W, whose windows meet in the last block: 1×K×C×h×w."""
        protocol = self.protocol
        looks = {"window": protocol.window, "stride": protocol.stride, "windows_at_once": self.windows_at_once}
        return _directions(encode_stitched(self.encoder, image, contexts=contexts, **looks).values())


def _directions(features: Iterable[DenseFeatures]) -> Tensor:
    """Unit vectors n×K×C×g×g of the features under each context; NaN where one has no direction."""
    content = torch.stack([each.content.float() for each in features], dim=1)
    return content / content.norm(dim=2, keepdim=True)
