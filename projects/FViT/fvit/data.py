"""The datasets of a run: what training teaches, batches to learn from, and images to detect on."""

import os
from collections.abc import Sequence

from torch.utils.data import DataLoader

from d2host import CfgNode
from d2host.engine.checkpoint import checkpoint_to_evaluate
from d2host.engine.checkpoint_file import read_run
from d2host.engine.errors import CheckpointError, ConfigError
from declip.data.detection.datasets import detection_classes, detection_metadata, detection_records
from declip.data.detection.loader import detection_train_loader
from declip.data.detection.mapper import DetectionMapper
from declip.data.loader import evaluation_loader
from declip.data.mapper import TestMapper


def taught_classes(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The classes of ``DATASETS.TRAIN``, in label order, and the labels that no object to train on may have.

    Raises:
        ConfigError: no dataset is named, so that it is open which classes are novel.
        DataError: the dataset is unknown.
    """
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN names no dataset: set it, for instance to ('nano_det_train',); in evaluation, too, it says "
            "which classes were taught"
        )
    return detection_classes(names[0]), list(detection_metadata(names[0]).get("novel_classes") or ())


def check_inputs(cfg: CfgNode, training: bool) -> None:
    """Refuse weights and datasets that a run would only find at fault when it reads them, before anything is built.

    The datasets' files are listed, no image is opened.

    Raises:
        ConfigError: a run needs some, and none are named.
        CheckpointError: there are no such weights, or those to evaluate were taught other classes.
        DataError: a dataset is unknown or incomplete, or has objects of novel classes to train on.
    """
    if cfg.MODEL.WEIGHTS and not os.path.isfile(cfg.MODEL.WEIGHTS):
        raise CheckpointError(f"checkpoint {cfg.MODEL.WEIGHTS} does not exist: check MODEL.WEIGHTS")
    taught = taught_classes(cfg.DATASETS.TRAIN)
    checkpoint = "" if training else checkpoint_to_evaluate(cfg)
    names = trained_on(checkpoint) if checkpoint else []
    if names and names != list(cfg.DATASETS.TRAIN) and taught_classes(names) != taught:
        raise CheckpointError(
            f"checkpoint {checkpoint} was trained on {', '.join(names)}, of other classes than "
            f"{', '.join(cfg.DATASETS.TRAIN)} of DATASETS.TRAIN, so that the wrong ones would count as novel: set "
            "DATASETS.TRAIN to what it was trained on"
        )
    if not cfg.DATASETS.TEST and (not training or cfg.TEST.EVAL_PERIOD):
        raise ConfigError("DATASETS.TEST names no dataset to evaluate on: set it, for instance to ('nano_det_val',)")
    for name in cfg.DATASETS.TRAIN if training else ():
        detection_records(name, training=True)
    for name in cfg.DATASETS.TEST:
        detection_records(name)


def trained_on(checkpoint: str) -> list[str]:
    """``DATASETS.TRAIN`` of the run that left a checkpoint; empty where it does not say."""
    try:
        return list(read_run(checkpoint, lazy=True)["training"]["config"]["DATASETS"]["TRAIN"])
    except (CheckpointError, KeyError, TypeError):  # weights alone, which are refused later if they are none
        return []


def build_train_loader(cfg: CfgNode, start_iter: int = 0) -> DataLoader:
    """This process's endless batches of ``DATASETS.TRAIN``, from iteration ``start_iter`` on.

    Raises:
        DataError: a dataset is unknown or incomplete, or they do not fit together.
        ConfigError: the batch does not divide by the number of processes.
    """
    classes, novel = taught_classes(cfg.DATASETS.TRAIN)
    mapper = DetectionMapper(
        classes,
        cfg.INPUT.IMAGE_SIZE,
        (cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE),
        flip=cfg.INPUT.RANDOM_FLIP == "horizontal",
        masks=cfg.MODEL.MASK_ON,
        novel=novel,
    )
    return detection_train_loader(
        cfg.DATASETS.TRAIN,
        mapper,
        seed=max(cfg.SEED, 0),
        images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_iter=start_iter,
    )


def build_test_loader(cfg: CfgNode, name: str) -> DataLoader:
    """This process's share of a test set, one image a batch, its longer side that of the model's square.

    Raises:
        DataError: the dataset is unknown or incomplete.
    """
    side = cfg.INPUT.IMAGE_SIZE
    return evaluation_loader(detection_records(name), TestMapper(side, side), cfg.DATALOADER.NUM_WORKERS)
