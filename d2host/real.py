"""The host symbols as Detectron2 has them, adapted where its behaviour would harm the project's output."""

import logging

from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.engine import default_setup as _default_setup
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
    build_model,
    build_sem_seg_head,
)
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

from d2host.embedded.writers import JSONWriter as _JSONWriter
from d2host.resolve import resolve_host
from d2host.symbols import SYMBOLS

__all__ = list(SYMBOLS)


class JSONWriter(_JSONWriter, EventWriter):
    """The embedded host's writer, which writes ``null`` for numbers that are not finite."""


def default_setup(cfg: CfgNode, args) -> None:
    """Detectron2's set-up (log, config.yaml, seed), with the host named in the first line of ``log.txt``."""
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="d2host")
    logging.getLogger("d2host").info(str(resolve_host()))
    _default_setup(cfg, args)
