"""The meta-architecture: a frozen dense CLIP, a pyramid, proposals and heads under Detectron2's model interface.

Shape legend
    B     images                      K  classes of the vocabulary in use, without the background
    S     side of the padded square   C  width of the shared image-text space
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from d2host import META_ARCH_REGISTRY, Boxes, CfgNode, Instances, configurable
from d2host.engine.errors import DataError
from d2host.engine.tensors import check_finite
from declip.models.backbone import DenseCLIPBackbone
from declip.models.templates import check_texts
from fvit.modeling.box_head import CODER, BoxHead, box_loss, classification_loss
from fvit.modeling.build import parts
from fvit.modeling.images import SquareImages
from fvit.modeling.mask_head import MaskHead, mask_targets, paste_masks
from fvit.modeling.proposals import ProposalNetwork
from fvit.modeling.pyramid import Pyramid, pyramid_strides
from fvit.modeling.regions import MASK_REGION, REGION, RegionPooler, RegionSampler
from fvit.modeling.scores import Ensemble, Selection, clip_features, cosines
from fvit.modeling.texts import ClassTexts

BACKGROUND = "background"  # its text is compared with like any class's


@META_ARCH_REGISTRY.register()
class FViT(nn.Module):
    """Open-vocabulary detection by a box head on a frozen dense CLIP, and by the dense features themselves.

    Args:
        images: puts images of any size into a square of side S.
        backbone: gives the maps of four blocks, and the dense one last; frozen.
        pyramid: of the four.
        proposals: where objects may be.
        box_head, mask_head: what is there; without a mask head, boxes alone are learned and predicted.
        texts: names → embeddings.
        classes: that labels of training samples index.
        untaught: those of them that no label names.
        finest: see :class:`RegionPooler`.
        sampler: proposals that the heads learn from.
        background_weight: in the loss of classes.
        ensemble: of scores.
        select: what is left of detections.
        predict_masks: whether evaluation does, given a mask head.

    Attributes:
        vocabulary: classes that evaluation detects; see :meth:`set_vocabulary`.
    """

    @configurable
    def __init__(
        self,
        *,
        images: SquareImages,
        backbone: DenseCLIPBackbone,
        pyramid: Pyramid,
        proposals: ProposalNetwork,
        box_head: BoxHead,
        mask_head: MaskHead | None,
        texts: ClassTexts,
        classes: Sequence[str],
        untaught: Sequence[int] = (),
        finest: float = 56.0,
        sampler: RegionSampler,
        background_weight: float,
        ensemble: Ensemble,
        select: Selection,
        predict_masks: bool = True,
    ) -> None:
        super().__init__()
        self.images, self.backbone, self.pyramid, self.proposals = images, backbone, pyramid, proposals
        self.box_head, self.mask_head, self.texts = box_head, mask_head, texts
        self.classes = self.vocabulary = tuple(classes)
        self.untaught = tuple(untaught)
        self.sampler, self.background_weight = sampler, background_weight
        strides = pyramid_strides(backbone.encoder.patch_size)[:-1]
        self.pool = RegionPooler(strides, REGION, finest)
        self.pool_masks = RegionPooler(strides, MASK_REGION, finest)
        self.ensemble, self.select, self.predict_masks = ensemble, select, predict_masks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Constructor arguments, see :func:`fvit.modeling.build.parts`."""
        return parts(cfg)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.images.pixel_mean.device

    def set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        """Choose the classes that evaluation detects; those that training never taught count as novel.

        Raises:
            DataError: there are none, or as :func:`declip.models.templates.check_texts`.
        """
        self.vocabulary = tuple(check_texts(vocabulary, "classes of the vocabulary"))

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, detections in evaluation.

        Args:
            batched_inputs: per image a dict with ``image`` (3×H×W RGB in 0..255, sides of at most S), for training
                ``instances`` (``gt_boxes``, ``gt_classes``, with a mask head ``gt_masks``), for evaluation optionally
                ``height`` and ``width`` of the image that detections are to be of.

        Returns:
            Losses by name, or per image ``{"instances": detections}``, the most certain first: ``pred_boxes``,
            ``scores``, ``pred_classes``, with a mask head ``pred_masks``.
        """
        if self.training:
            return self.losses(batched_inputs)
        with torch.inference_mode():
            return self.detect(batched_inputs)

    def losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Losses of the proposals, of classes, boxes and masks of a sample of them."""
        images, maps, _ = self.encode(batched_inputs)
        truth = [self.objects(sample) for sample in batched_inputs]
        proposals, losses = self.proposals(images, dict(enumerate(maps)), [{"boxes": boxes} for boxes, _, _ in truth])
        samples = [
            self.sampler(found, boxes, labels, len(self.classes))
            for found, (boxes, labels, _) in zip(proposals, truth, strict=True)
        ]
        texts = self.texts(self.backbone.encoder, (*self.classes, BACKGROUND))
        logits, deltas = self.box_head(self.pool(maps, [sample.boxes for sample in samples]), texts)
        labels, positive = (torch.cat([getattr(each, name) for each in samples]) for name in ("labels", "positive"))
        unused = torch.zeros(len(texts), dtype=torch.bool, device=self.device)
        unused[list(self.untaught)] = True
        matched = [boxes[each.objects[each.positive]] for each, (boxes, _, _) in zip(samples, truth, strict=True)]
        learned = [each.boxes[each.positive] for each in samples]
        losses["loss_cls"] = classification_loss(logits, labels, self.background_weight, unused)
        losses["loss_box_reg"] = box_loss(deltas[positive], torch.cat(learned), torch.cat(matched), len(labels))
        if self.mask_head:
            logits = self.mask_head(self.pool_masks(maps, learned))
            objects = [each.objects[each.positive] for each in samples]
            given = zip([masks for _, _, masks in truth], learned, objects, strict=True)
            targets = torch.cat([mask_targets(*each, size=logits.shape[-1]) for each in given])
            cross_entropy = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
            losses["loss_mask"] = cross_entropy / max(targets.numel(), 1)
        return losses

    def detect(self, batched_inputs: list[dict]) -> list[dict]:
        """Detections of each image, in pixels of the image that is wanted."""
        images, maps, dense = self.encode(batched_inputs)
        proposals, _ = self.proposals(images, dict(enumerate(maps)))
        counts = [len(boxes) for boxes in proposals]
        texts = self.texts(self.backbone.encoder, (*self.vocabulary, BACKGROUND))
        logits, deltas = self.box_head(self.pool(maps, proposals), texts)
        regions = clip_features(F.normalize(dense.float(), dim=1), proposals, self.backbone.stride)
        taught = {name for index, name in enumerate(self.classes) if index not in self.untaught}
        novel = torch.tensor([name not in taught for name in self.vocabulary], device=self.device)
        scores = self.ensemble(logits, cosines(regions, texts), novel).split(counts)
        boxes = CODER.decode_single(deltas, torch.cat(proposals)).split(counts)
        results = []
        for index, sample in enumerate(batched_inputs):
            check_finite(scores[index], f"the scores of {sample.get('file_name', 'the image')}")
            size, found = images.image_sizes[index], clip_boxes_to_image(boxes[index], images.image_sizes[index])
            wanted = sample.get("height", size[0]), sample.get("width", size[1])
            scale = found.new_tensor([wanted[1] / size[1], wanted[0] / size[0]] * 2)
            rows, kinds, certain = self.select(found * scale, scores[index])
            instances = Instances(wanted, pred_boxes=Boxes(found[rows] * scale), scores=certain, pred_classes=kinds)
            if self.mask_head and self.predict_masks:
                of_image = [each[index : index + 1] for each in maps]
                masks = self.mask_head(self.pool_masks(of_image, [found[rows]])).float().sigmoid()[:, 0]
                instances.pred_masks = paste_masks(masks, instances.pred_boxes.tensor, wanted)
            results.append({"instances": instances})
        return results

    def encode(self, batched_inputs: list[dict]) -> tuple[ImageList, list[Tensor], Tensor]:
        """Images of a batch in a square, their pyramid, and their dense map."""
        images = self.images([sample["image"] for sample in batched_inputs])
        *blocks, dense = self.backbone(images.tensors).values()
        return images, self.pyramid(blocks), dense

    def objects(self, sample: dict) -> tuple[Tensor, Tensor, Tensor | None]:
        """Boxes G×4, labels G and, with a mask head, masks G×H×W of a training sample's objects.

        Raises:
            DataError: a label is of no class, or of one that training must not see.
        """
        instances = sample["instances"].to(self.device)
        labels = instances.gt_classes
        wrong = [label for label in labels.unique().tolist() if not 0 <= label < len(self.classes)]
        if wrong:
            raise DataError(
                f"the labels of {sample.get('file_name', 'an image')} name class {wrong[0]}, but there are "
                f"{len(self.classes)} training classes: prepare the annotations again"
            )
        leaked = sorted({*labels.tolist()} & {*self.untaught})
        if leaked:
            raise DataError(
                f"the labels of {sample.get('file_name', 'an image')} name the novel class "
                f"'{self.classes[leaked[0]]}', which training must not see: train on base annotations alone"
            )
        return instances.gt_boxes.tensor, labels, instances.gt_masks.tensor if self.mask_head else None
