"""The meta-architecture: a decoupled CLIP encoder and a CAT-Seg head under Detectron2's model interface.

Shape legend
    K     classes of the vocabulary in use          H, W  image or label map
    g     token grid of the encoder                 s     side the encoder sees, g * patch size
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from catseg.config import check_config
from catseg.loader import training_classes
from catseg.modeling.head import CATSegHead
from catseg.modeling.inference import (
    SlidingWindow,
    Views,
    WholeImage,
    resize,
    segment_labels,
    segment_scores,
)
from catseg.modeling.loss import binary_cross_entropy
from d2host import META_ARCH_REGISTRY, CfgNode, ShapeSpec, build_sem_seg_head, configurable
from d2host.engine.errors import ConfigError, DataError
from d2host.engine.tensors import check_finite
from declip.data.batching import group_by_shape
from declip.models.encoder import DenseCLIP
from declip.models.factory import RANDOM, build_encoder, known_weights
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.stated import state_attention
from declip.models.stitching import stitch
from declip.models.templates import Templates, check_texts
from declip.models.zero_shot_classifier import ClassEmbeddings


def guidance_blocks(encoder: DenseCLIP, chosen: Sequence[int] = ()) -> tuple[int, ...]:
    """The two blocks whose features guide the decoder: those chosen, else those that end the first two thirds.

    Depth 12 gives 3 and 7, depth 24 gives 7 and 15 (CAT-Seg, Sec. 4.1).

    Raises:
        ConfigError: the encoder has no such blocks.
    """
    third, count = encoder.num_blocks // 3, encoder.num_blocks - encoder.context.decoupled
    blocks = tuple(chosen) or (third - 1, 2 * third - 1)
    if not all(0 <= block < count for block in blocks):
        raise ConfigError(
            f"MODEL.ENCODER.GUIDANCE_BLOCKS is {blocks}: blocks of this encoder that have features are 0 to {count - 1}"
        )
    return blocks


@META_ARCH_REGISTRY.register()
class CATSeg(nn.Module):
    """Open-vocabulary semantic segmentation by cost aggregation over dense CLIP features.

    Args:
        encoder: gives image, hidden and text features.
        head: cost aggregation.
        class_embeddings: vocabulary → text features.
        train_classes: vocabulary of the training labels.
        grid: g, tokens per side of the encoder's input.
        blocks: the two encoder blocks that guide the decoder.
        views: how test images are seen.
        ignore_label: of the training labels.

    Attributes:
        vocabulary: classes that evaluation segments; see :meth:`set_vocabulary`.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: DenseCLIP,
        head: CATSegHead,
        class_embeddings: ClassEmbeddings,
        train_classes: Sequence[str],
        grid: int,
        blocks: tuple[int, int],
        views: Views,
        ignore_label: int = 255,
    ) -> None:
        super().__init__()
        self.encoder, self.sem_seg_head = encoder, head
        self.class_embeddings = class_embeddings
        self.train_classes = self.vocabulary = tuple(train_classes)
        self.side = grid * encoder.patch_size
        self.blocks, self.views = tuple(blocks), views
        self.ignore_label = ignore_label

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Constructor arguments; everything about the encoder's shape is asked of the encoder.

        Raises:
            ConfigError, CheckpointError, DataError: the encoder, its weights or the training set cannot be had.
        """
        check_config(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        state_attention(cfg)
        options, classes = cfg.MODEL.ENCODER, training_classes(cfg)
        weights = options.WEIGHTS or (RANDOM if cfg.MODEL.WEIGHTS else "")  # a whole model brings its encoder's
        if not weights:
            raise ConfigError(f"MODEL.ENCODER.WEIGHTS is empty: give {known_weights(options.NAME)}")
        encoder = build_encoder(options.NAME, weights, options.CONTEXT or None, options.ATTENTION_SCALE or None)
        blocks = guidance_blocks(encoder, options.GUIDANCE_BLOCKS)
        apply_finetuning(encoder, FinetunePolicy(options.FINETUNE))
        shapes = {
            "content": ShapeSpec(channels=encoder.embed_dim, stride=encoder.patch_size),
            "hidden": ShapeSpec(channels=encoder.width, stride=encoder.patch_size),
        }
        side, window = options.GRID * encoder.patch_size, cfg.TEST.SLIDING_WINDOW
        views = WholeImage(side)
        if window.ENABLED:
            views = SlidingWindow(window.SIZE, window.KERNEL, window.OVERLAP, window.STITCH)
            if window.STITCH:
                views.patches(options.GRID)  # refused at once where windows cannot be stitched
                if encoder.num_blocks - 1 in options.GUIDANCE_BLOCKS:
                    raise ConfigError(
                        "MODEL.ENCODER.GUIDANCE_BLOCKS names the last block, in which stitched windows meet: choose "
                        "earlier ones, or switch TEST.SLIDING_WINDOW.STITCH off"
                    )
        return {
            "encoder": encoder,
            "head": build_sem_seg_head(cfg, shapes),
            "class_embeddings": ClassEmbeddings(Templates(cfg.MODEL.TEXT.PROMPTS)),
            "train_classes": classes,
            "grid": options.GRID,
            "blocks": blocks,
            "views": views,
            "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.encoder.pixel_mean.device

    def set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        """Choose the classes that evaluation segments; nothing is encoded before the next image.

        Raises:
            DataError: there are none, or as :func:`declip.models.templates.check_texts`.
        """
        self.vocabulary = tuple(check_texts(vocabulary, "classes of the vocabulary"))

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, segmentations in evaluation.

        Args:
            batched_inputs: per image a dict with ``image`` (3×H×W RGB in 0..255), for training ``sem_seg`` (H×W),
                for evaluation optionally ``height`` and ``width`` of the wanted output.

        Returns:
            ``{"loss_sem_seg": scalar}``, or per image ``{"sem_seg": scores}``, K×H×W in [0, 1].
        """
        if self.training:
            return {"loss_sem_seg": self._loss(batched_inputs)}
        return self._segment(batched_inputs, segment_scores)

    def predict_labels(self, batched_inputs: list[dict]) -> list[dict]:
        """The best class of every pixel, in memory that does not grow with K.

        Args:
            batched_inputs: as of :meth:`forward` in evaluation.

        Returns:
            Per image ``{"sem_seg": labels}``, H×W int64 indices into :attr:`vocabulary`.
        """
        return self._segment(batched_inputs, segment_labels)

    def logits(self, images: Tensor, vocabulary: Sequence[str], kept: Sequence[Tensor] | None = None) -> Tensor:
        """Logits of every class for images B×3×H×W in 0..255, resized to what the encoder sees: B×K×4g×4g.

        ``kept`` are classes of each image that the head aggregates in any case, see :class:`Aggregator`.
        """
        content, guidance = self.encode(images)
        return self.sem_seg_head(content, guidance, self.class_embeddings(self.encoder, vocabulary), kept)

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the head is given of images B×3×H×W in 0..255, whatever the vocabulary: content and guidance."""
        images = self.encoder.normalize(resize(images, (self.side, self.side)))
        features = self.encoder.encode_dense(images, self.blocks)
        return features.content, [features.hidden[block] for block in self.blocks]

    def encode_views(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As :meth:`encode` of the views of an image 3×H×W in 0..255, the whole image last."""
        if not (isinstance(self.views, SlidingWindow) and self.views.stitch):
            return self.encode(self.views.views(image))
        return self.encode_stitched(image)

    def encode_stitched(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As :meth:`encode_views`, of windows that meet in the encoder's last block."""
        encoder, patches = self.encoder, self.views.patches(self.side // self.encoder.patch_size)
        views = encoder.normalize(resize(self.views.views(image), (self.side, self.side)))
        square = encoder.normalize(resize(image[None], (patches.rows.length * encoder.patch_size,) * 2))
        tokens, hidden = encoder.run_blocks(views[:-1], self.blocks)
        stitched = encoder.attend(stitch(encoder, tokens, patches), encoder.context, square)
        whole = encoder.encode_dense(views[-1:], self.blocks)
        content = torch.cat([patches.cut(stitched.content[0]), whole.content])
        guidance = [torch.cat([hidden[block], whole.hidden[block]]) for block in self.blocks]
        return content, guidance

    def _loss(self, batched_inputs: list[dict]) -> Tensor:
        """The loss, for which each image's own classes are aggregated however large the vocabulary is."""
        images = [resize(self._image(sample)[None], (self.side, self.side)) for sample in batched_inputs]
        labels = [sample["sem_seg"].to(self.device) for sample in batched_inputs]
        taught = [np.setdiff1d(sample["sem_seg"].cpu().numpy(), self.ignore_label) for sample in batched_inputs]
        for sample, classes in zip(batched_inputs, taught, strict=True):
            if len(classes) and not 0 <= classes[0] <= classes[-1] < len(self.train_classes):
                raise DataError(
                    f"the labels of {sample.get('file_name', 'an image')} are {classes[0]} to {classes[-1]}, those of "
                    f"the {len(self.train_classes)} training classes 0 to {len(self.train_classes) - 1}: set "
                    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE to the label of pixels without a class"
                )
        kept = [torch.from_numpy(classes).to(self.device) for classes in taught]
        logits = self.logits(torch.cat(images), self.train_classes, kept)
        losses = []
        for group in group_by_shape(labels):
            sem_seg = torch.stack([labels[index] for index in group])
            some = logits if len(group) == len(logits) else logits[group]
            losses.append(binary_cross_entropy(some, sem_seg, self.ignore_label) * len(group))
        return torch.stack(losses).sum() / len(logits)

    @torch.no_grad()
    def _segment(self, batched_inputs: list[dict], segment: Callable[..., Tensor]) -> list[dict]:
        images = [self._image(sample) for sample in batched_inputs]
        if isinstance(self.views, SlidingWindow) and self.views.stitch:
            embeddings = self.class_embeddings(self.encoder, self.vocabulary)
            logits = [self.sem_seg_head(*self.encode_stitched(image), embeddings) for image in images]
        else:
            views = [self.views.views(image) for image in images]
            logits = self.logits(torch.cat(views), self.vocabulary).split([len(each) for each in views])
        results = []
        for sample, image, seen in zip(batched_inputs, images, logits, strict=True):
            size = (sample.get("height", image.shape[1]), sample.get("width", image.shape[2]))
            check_finite(seen, f"the scores of {sample.get('file_name', 'the image')}")
            results.append({"sem_seg": segment(self.views, seen, size)})
        return results

    def _image(self, sample: dict) -> Tensor:
        return sample["image"].to(self.device, torch.float32)
