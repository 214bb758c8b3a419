"""The host symbols as Detectron2 has them, adapted where its behaviour would harm the project's output."""

import logging

from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    Backbone,
    build_backbone,
)
from detectron2.modeling import build_model as _build_model
from detectron2.modeling import build_sem_seg_head as _build_sem_seg_head
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    TensorboardXWriter,
    get_event_storage,
)
from detectron2.utils.logger import setup_logger
from detectron2.utils.registry import Registry

from d2host.embedded.models import registered
from d2host.embedded.writers import JSONWriter as _JSONWriter
from d2host.engine.errors import DeclipError
from d2host.symbols import SYMBOLS

__all__ = list(SYMBOLS)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let a fault that says itself what is wrong be logged as its sentence."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, DeclipError):
        record.msg, record.args, record.exc_info = "Training stopped: %s", (error,), None
    return True


logging.getLogger("detectron2.engine.train_loop").addFilter(_without_traceback)


class JSONWriter(_JSONWriter, EventWriter):
    """The embedded host's writer, which writes ``null`` for numbers that are not finite."""


def build_model(cfg: CfgNode):
    """Detectron2's model, of an architecture that is registered."""
    registered(META_ARCH_REGISTRY, "MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE)
    return _build_model(cfg)


def build_sem_seg_head(cfg: CfgNode, input_shape):
    """Detectron2's head, of a name that is registered."""
    registered(SEM_SEG_HEADS_REGISTRY, "MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME)
    return _build_sem_seg_head(cfg, input_shape)
