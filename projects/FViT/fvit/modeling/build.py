"""The parts of a detector that a config describes."""

from typing import Any

from d2host import CfgNode
from d2host.engine.errors import ConfigError
from d2host.engine.precision import amp_precision
from declip.models.backbone import DENSE, DenseCLIPBackbone
from declip.models.factory import RANDOM, build_encoder, known_weights
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.stated import state_attention
from declip.models.templates import Templates
from fvit.config import check_config
from fvit.data import taught_classes
from fvit.modeling.box_head import BoxHead
from fvit.modeling.cached_backbone import CachedBackbone
from fvit.modeling.images import SquareImages
from fvit.modeling.mask_head import MaskHead
from fvit.modeling.norm import SyncBatchNorm
from fvit.modeling.proposals import ProposalNetwork
from fvit.modeling.pyramid import Pyramid, pyramid_strides
from fvit.modeling.regions import REGION, RegionSampler
from fvit.modeling.scores import Ensemble, Selection
from fvit.modeling.texts import ClassTexts


def parts(cfg: CfgNode) -> dict[str, Any]:
    """Constructor arguments of :class:`fvit.modeling.FViT`; everything about the encoder's shape is asked of it.

    Raises:
        ConfigError, CheckpointError, DataError: the encoder, its weights or the training set cannot be had.
    """
    check_config(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    state_attention(cfg)
    options, heads, test = cfg.MODEL.ENCODER, cfg.MODEL.ROI_HEADS, cfg.TEST
    classes, untaught = taught_classes(cfg.DATASETS.TRAIN)
    weights = options.WEIGHTS or (RANDOM if cfg.MODEL.WEIGHTS else "")  # a whole model brings its encoder's
    if not weights:
        raise ConfigError(f"MODEL.ENCODER.WEIGHTS is empty: give {known_weights(options.NAME)}")
    encoder = build_encoder(options.NAME, weights, options.CONTEXT or None, options.ATTENTION_SCALE or None)
    apply_finetuning(encoder, FinetunePolicy.FROZEN)
    patch, channels = encoder.patch_size, cfg.MODEL.FPN.OUT_CHANNELS
    if cfg.INPUT.IMAGE_SIZE % (2 * patch):
        raise ConfigError(
            f"INPUT.IMAGE_SIZE is {cfg.INPUT.IMAGE_SIZE}: it must be a multiple of {2 * patch}, two patches of "
            f"'{options.NAME}'"
        )
    maps = [*(f"block{block}" for block in options.BLOCKS), DENSE]
    rpn, own = cfg.MODEL.RPN, [255 * each.flatten() for each in (encoder.pixel_mean, encoder.pixel_std)]
    statistics = cfg.MODEL.PIXEL_MEAN or own[0].tolist(), cfg.MODEL.PIXEL_STD or own[1].tolist()
    return {
        "images": SquareImages(*statistics, cfg.INPUT.IMAGE_SIZE),
        "backbone": _backbone(cfg, encoder=encoder, out_features=maps, stride=patch),
        "pyramid": Pyramid(encoder.width, channels),
        "proposals": ProposalNetwork(
            pyramid_strides(patch),
            channels,
            norm_layer=SyncBatchNorm if rpn.NORM else None,
            candidates=rpn.PRE_NMS_TOPK,
            proposals=rpn.POST_NMS_TOPK,
            iou=rpn.NMS_THRESH,
            samples=rpn.BATCH_SIZE_PER_IMAGE,
        ),
        "box_head": BoxHead(
            channels,
            REGION,
            encoder.embed_dim,
            cfg.MODEL.ROI_BOX_HEAD.NUM_CONV,
            fixed_temperature=test.ENSEMBLE.DETECTOR_TEMPERATURE,
        ),
        "mask_head": MaskHead(channels) if cfg.MODEL.MASK_ON else None,
        "texts": ClassTexts(Templates(cfg.MODEL.TEXT.PROMPTS), cfg.MODEL.TEXT.CACHE or None),
        "classes": classes,
        "untaught": untaught,
        "finest": cfg.MODEL.ROI_HEADS.FINEST_SIZE,
        "sampler": RegionSampler(heads.BATCH_SIZE_PER_IMAGE, heads.POSITIVE_FRACTION),
        "background_weight": heads.BACKGROUND_WEIGHT,
        "ensemble": Ensemble(test.ENSEMBLE.ALPHA, test.ENSEMBLE.BETA, test.ENSEMBLE.VLM_TEMPERATURE),
        "predict_masks": test.MASKS,
        "select": Selection(test.SCORE_THRESH, test.NMS_THRESH, test.DETECTIONS_PER_IMAGE),
    }


def _backbone(cfg: CfgNode, **options: Any) -> DenseCLIPBackbone:
    """The frozen encoder, with a cache where ``MODEL.ENCODER.CACHE`` names one."""
    keys = cfg.MODEL.ENCODER
    if not keys.CACHE:
        return DenseCLIPBackbone(**options)
    precision = amp_precision(cfg.SOLVER.AMP, cfg.MODEL.DEVICE)
    return CachedBackbone(folder=keys.CACHE, limit=int(keys.CACHE_LIMIT * 2**30), precision=precision, **options)
