"""Data loaders: batches are lists of dicts, and depend neither on the number of workers nor on where a run resumed."""

import os
from collections.abc import Sequence

import numpy as np
from torch.utils.data import DataLoader, Dataset

from catseg.mapper import TrainMapper
from d2host.engine.errors import CheckpointError, ConfigError, DataError
from d2host.engine.loading import endless_loader
from declip.data.datasets import class_names, dataset_metadata, dataset_records
from declip.data.reading import LabelFormat


class TrainDataset(Dataset):
    """Samples addressed by ``(epoch, index)``, augmented by a generator of (seed, epoch, index).

    Args:
        records: dataset dicts.
        mapper: reads and augments one.
        seed: of the augmentations.
    """

    def __init__(self, records: list[dict], mapper: TrainMapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, address: tuple[int, int]) -> dict:
        epoch, index = address
        return self.mapper(self.records[index], np.random.default_rng((self.seed, epoch, index)))


def check_inputs(cfg, training: bool) -> None:
    """Refuse weights and datasets that a run would only find at fault when it reads them, before anything is built.

    The datasets' files are listed, none is opened.

    Raises:
        ConfigError: a run needs some, and none are named, or the ignored value is a class.
        CheckpointError: there are no such weights.
        DataError: a dataset is unknown or incomplete, or training sets do not fit together.
    """
    if cfg.MODEL.WEIGHTS and not os.path.isfile(cfg.MODEL.WEIGHTS):
        raise CheckpointError(f"checkpoint {cfg.MODEL.WEIGHTS} does not exist: check MODEL.WEIGHTS")
    if training and not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN names no dataset: set it, for instance to ('nano_train',)")
    if not training and not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST names no dataset to evaluate on: set it, for instance to ('nano_val',)")
    if training and cfg.TEST.EVAL_PERIOD and not cfg.DATASETS.TEST:
        raise ConfigError(
            f"TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}, but DATASETS.TEST names no dataset to evaluate on: name one, "
            "or set the period to 0"
        )
    training_classes(cfg)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if training else cfg.DATASETS.TEST:
        dataset_records(name)


def training_classes(cfg) -> Sequence[str]:
    """The class list of ``DATASETS.TRAIN``, in label order; empty where no dataset is named.

    Raises:
        DataError: a dataset is unknown, or they differ in class lists or in how label files are read.
        ConfigError: ``MODEL.SEM_SEG_HEAD.IGNORE_VALUE`` is one of the classes.
    """
    names, ignore_value = cfg.DATASETS.TRAIN, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if not names:
        return ()
    classes, labels = class_names(names[0]), LabelFormat.of(dataset_metadata(names[0]))
    for name in names[1:]:
        if list(class_names(name)) != list(classes):
            raise DataError(f"training sets '{names[0]}' and '{name}' have different class lists: train on one of them")
        if LabelFormat.of(dataset_metadata(name)) != labels:
            raise DataError(
                f"training sets '{names[0]}' and '{name}' differ in ignore_label or reduce_zero_label: train on one of "
                "them, or prepare their labels alike"
            )
    if 0 <= ignore_value < len(classes):
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, which is the class '{classes[ignore_value]}' of "
            f"'{names[0]}': set it beyond the {len(classes)} classes, for instance to 65535"
        )
    return classes


def build_train_loader(cfg, start_iter: int = 0) -> DataLoader:
    """This process's endless batches of ``DATASETS.TRAIN``, from iteration ``start_iter`` on.

    Several training sets are concatenated; they must share their class list. ``SOLVER.IMS_PER_BATCH`` images are
    spread over the processes; with ``SOLVER.ACCUMULATION_STEPS`` k, each iteration takes k batches.

    Raises:
        DataError: a dataset is unknown or incomplete, or they do not fit together.
        ConfigError: the batch does not divide by the number of processes.
    """
    names = cfg.DATASETS.TRAIN
    training_classes(cfg)
    records = [record for name in names for record in dataset_records(name)]
    mapper = TrainMapper.from_config(cfg, dataset_metadata(names[0]))
    return endless_loader(
        TrainDataset(records, mapper, max(cfg.SEED, 0)),
        seed=max(cfg.SEED, 0),
        images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start_iter=start_iter,
    )
