"""Region classification, batched over images.

Shape legend
    K  regions of an image        C  width of the shared image-text space       T  classes        M  regions of a batch
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from d2host import comm
from d2host.engine.errors import DataError
from d2host.engine.loading import list_loader
from declip.data.batching import group_by_shape
from declip.data.loader import share_of
from declip.data.region_sets import RegionImage, RegionSet
from declip.evaluation.regions.accuracy import RegionAccuracy, class_ranks, class_scores
from declip.evaluation.regions.pooling import cut_crops, pool_boxes, pool_masks
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.zero_shot_classifier import Templates, embed_names

THING_CONTEXT = 1.5  # how much larger than a thing's box its crop is; a stuff's is tight


class RegionMethod(str, Enum):
    """Where a region's feature comes from."""

    BOXES = "boxes"  # RoIAlign over dense features
    MASKS = "masks"  # the mean of the dense features under the mask
    CROPS = "crops"  # the class token of the crop, at the crop's own resolution


class Kind(NamedTuple):
    """Of a region's feature: how the last block attended, and where in its map the feature comes from."""

    context: ContextType | Context
    method: RegionMethod

    @property
    def in_words(self) -> str:
        """What tables call it."""
        if self.method is RegionMethod.CROPS:
            return "class token, crops"
        return f"{self.context.value}, {self.method.value}"


def classify_regions(
    encoder: DenseCLIP, regions: RegionSet, side: int, *, method: RegionMethod = RegionMethod.BOXES, **options
) -> RegionAccuracy | None:
    """Name every region of a set by one kind of feature; options and processes as of :func:`compare_regions`."""
    kinds = compare_regions(encoder, regions, side, contexts=(encoder.context,), methods=(method,), **options)
    return kinds.get(Kind(encoder.context, method))


@torch.no_grad()
def compare_regions(
    encoder: DenseCLIP,
    regions: RegionSet,
    side: int,
    *,
    contexts: Sequence[ContextType | Context],
    methods: Sequence[RegionMethod],
    max_images: int = 0,
    templates: Templates = Templates.PHOTO,
    text: Tensor | None = None,
    images_at_once: int = 8,
    num_workers: int = 0,
    progress: bool = False,
    save: Callable[[Kind, dict, Tensor], None] | None = None,
) -> dict[Kind, RegionAccuracy]:
    """Name every region of a set by several kinds of features, in one pass over the images.

    Processes of a run share the images; each of them has to call this.

    Args:
        encoder: in evaluation mode.
        regions: what to classify.
        side: longer side of the images as the encoder sees them, pixels; of crops, the side.
        contexts: how the last block attends; crops do not depend on it.
        methods: see :class:`RegionMethod`; crops, whose side is another, alone.
        max_images: only the first of the set; 0: all.
        templates: of the prompts.
        text: T×C class embeddings computed before; None: computed here.
        images_at_once: images encoded together where their shapes agree; crops of as many images are, too.
        num_workers: processes that load.
        progress: show a bar.
        save: takes the kind of feature, an image (``file_name``, K ``labels`` and ``segment_ids``) and its K×T scores,
            for this process's images.

    Returns:
        Accuracies by kind; none on processes other than 0.

    Raises:
        DataError: an image or a mask cannot be read, or there is no region.
        CheckpointError: features of an image are not finite, or zero.
        ValueError: crops are asked for together with another method.
    """
    if RegionMethod.CROPS in methods and len(methods) > 1:
        raise ValueError("crops are seen at a side of their own: compare them in a call of their own")
    if text is None:
        text = embed_names(encoder, regions.class_names, templates)
    images = _with_area(regions.first(max_images, masks=RegionMethod.MASKS in methods))
    dataset = _RegionViews(
        share_of(images, images_at_once), torch.tensor(regions.is_thing), methods, side, encoder.patch_size
    )
    loader = list_loader(dataset, num_workers, batch_size=images_at_once, shuffle=False)
    ranks: dict[Kind, list[Tensor]] = {Kind(context, method): [] for context in contexts for method in methods}
    names = ", ".join(method.value for method in methods)
    bar = tqdm(loader, desc=f"{names} at {side} px", unit="batch", disable=not (progress and comm.is_main_process()))
    for kind, sample, scores in _scored(encoder, bar, contexts, methods, text):
        ranks[kind].append(class_ranks(scores, sample["labels"]))
        if save:
            save(kind, sample, scores)
    shares = comm.gather(ranks)
    if not comm.is_main_process():
        return {}
    labels = torch.cat([image.labels for image in images])
    together = {kind: torch.cat([rank for share in shares for rank in share[kind]]) for kind in ranks}
    return {kind: RegionAccuracy.of(each, labels, regions.is_thing) for kind, each in together.items()}


def _scored(
    encoder: DenseCLIP,
    batches: Iterable[list[dict]],
    contexts: Sequence[ContextType | Context],
    methods: Sequence[RegionMethod],
    text: Tensor,
) -> Iterator[tuple[Kind, dict, Tensor]]:
    """The scores K×T of an image's regions, image by image and by each kind of feature."""
    for batch in batches:
        features = _region_features(encoder, batch, contexts, methods)
        scores = {kind: class_scores(each, batch, text) for kind, each in features.items()}
        for index, sample in enumerate(batch):
            for kind, by_image in scores.items():
                yield kind, sample, by_image[index]


def _with_area(images: Sequence[RegionImage]) -> list[RegionImage]:
    """Images with those of their regions that have an area; what is left out is logged.

    Raises:
        DataError: nothing is left.
    """
    kept, empty = [], []
    for image in images:
        sides = image.boxes[:, 2:] - image.boxes[:, :2]
        has_area = (sides > 0).all(dim=1) & image.boxes.isfinite().all(dim=1)
        if not has_area.all():
            empty.append(image.file_name)
            regions = {name: getattr(image, name)[has_area] for name in ("boxes", "labels", "segment_ids")}
            image = replace(image, **regions)
        if len(image.labels):
            kept.append(image)
    if empty:
        logging.getLogger(__name__).warning(
            "Regions without area are left out, of %d images, the first %s", len(empty), empty[0]
        )
    if not kept:
        raise DataError("there is no region with an area to classify: check the annotations and --max-images")
    return kept


class _RegionViews(Dataset):
    """What the encoder sees of each image, and where its regions lie in that."""

    def __init__(
        self, images: Sequence[RegionImage], is_thing: Tensor, methods: Collection[RegionMethod], side: int, patch: int
    ) -> None:
        self.images, self.is_thing = images, is_thing
        self.methods, self.side, self.patch_size = methods, side, patch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        regions = self.images[index]
        image = regions.image()
        facts = {"labels": regions.labels, "segment_ids": regions.segment_ids, "file_name": regions.file_name}
        if RegionMethod.CROPS in self.methods:
            enlarge = torch.where(self.is_thing[regions.labels], THING_CONTEXT, 1.0)
            crops = cut_crops(image, regions.boxes, enlarge, self.side)
            return {"crops": crops, **facts}
        scale = self.side / max(image.shape[-2:])
        inner = [max(round(length * scale), 1) for length in image.shape[-2:]]
        padding = [0, 0, -inner[1] % self.patch_size, -inner[0] % self.patch_size]
        resized = transforms.resize(image, inner, transforms.InterpolationMode.BICUBIC, antialias=True)
        sample = {
            "image": transforms.pad(resized, padding),
            "boxes": regions.boxes * scale,
            **facts,
        }
        if RegionMethod.MASKS in self.methods:
            sample["masks"] = transforms.pad(regions.masks(inner), padding)
            lost = ~sample["masks"].flatten(1).any(dim=1)
            sample["masks"][lost] = _centers(sample["boxes"][lost], sample["masks"].shape[-2:])
        return sample


def _centers(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Masks of one pixel each: for regions that vanished when their image was made smaller."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
        mask[min(int((y0 + y1) / 2), size[0] - 1), min(int((x0 + x1) / 2), size[1] - 1)] = True
    return masks


def _region_features(
    encoder: DenseCLIP,
    batch: Sequence[dict],
    contexts: Sequence[ContextType | Context],
    methods: Sequence[RegionMethod],
) -> dict[Kind, Tensor]:
    """Features M×C of all regions of a batch, by kind."""
    device = encoder.pixel_mean.device
    if RegionMethod.CROPS in methods:
        crops = torch.cat([sample["crops"] for sample in batch]).to(device)
        features = torch.cat([encoder.encode_image(encoder.normalize(part)).float() for part in crops.split(64)])
        return {Kind(context, RegionMethod.CROPS): features for context in contexts}
    content = _dense_features(encoder, [sample["image"].to(device) for sample in batch], contexts)
    pooled: dict[Kind, list[Tensor]] = {Kind(context, method): [] for context in contexts for method in methods}
    for sample, by_context in zip(batch, content, strict=True):
        for context, method in pooled:
            if method is RegionMethod.MASKS:
                regions = pool_masks(by_context[context], sample["masks"].to(device))
            else:
                regions = pool_boxes(by_context[context], sample["boxes"].to(device), encoder.patch_size)
            pooled[Kind(context, method)].append(regions)
    return {kind: torch.cat(each) for kind, each in pooled.items()}


def _dense_features(
    encoder: DenseCLIP, images: Sequence[Tensor], contexts: Sequence[ContextType | Context]
) -> list[dict[ContextType | Context, Tensor]]:
    """C×h×w float32 per image and context type, in order; images of one shape go through the encoder together."""
    found: list[dict[ContextType | Context, Tensor]] = [{} for _ in images]
    for group in group_by_shape(images):
        stacked = encoder.normalize(torch.stack([images[index] for index in group]))
        for context, features in encoder.encode_contexts(stacked, contexts).items():
            for index, content in zip(group, features.content.float(), strict=True):
                found[index][context] = content
    return found
