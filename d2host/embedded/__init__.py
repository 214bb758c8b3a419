"""The embedded host: what the project needs of Detectron2, as glue over fvcore and iopath."""

from fvcore.common.checkpoint import PeriodicCheckpointer
from fvcore.common.registry import Registry

from d2host.embedded import comm, hooks
from d2host.embedded.catalog import DatasetCatalog, MetadataCatalog
from d2host.embedded.checkpoint import DetectionCheckpointer
from d2host.embedded.config import CfgNode, configurable, get_cfg
from d2host.embedded.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from d2host.embedded.events import EventStorage, get_event_storage
from d2host.embedded.launch import launch
from d2host.embedded.models import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    ShapeSpec,
    build_backbone,
    build_model,
    build_sem_seg_head,
)
from d2host.embedded.setup import default_argument_parser, default_setup, seed_all_rng, setup_logger
from d2host.embedded.train_loop import HookBase, TrainerBase
from d2host.embedded.writers import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from d2host.symbols import SYMBOLS

__all__ = list(SYMBOLS)
