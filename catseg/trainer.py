"""Training CAT-Seg: the project's training loop with CAT-Seg's data, optimizer groups and evaluation."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

import catseg.modeling  # noqa: F401 (registers the meta-architecture)
from catseg.checkpoint import load_model_weights
from catseg.config import get_catseg_cfg
from catseg.loader import build_train_loader, check_inputs
from d2host import CfgNode
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.checkpoint import checkpoint_to_evaluate
from d2host.engine.parallel import unwrap
from declip.evaluation.run import evaluate_datasets, report_results, without_classes
from declip.models.finetuning import no_weight_decay
from declip.models.stated import state_attention
from declip.plugins import Training


class SegmentationTrainer(Trainer):
    """Trains a :class:`catseg.modeling.CATSeg` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self.cfg = cfg
        optimizer = build_optimizer(model, optimizer_options(cfg, model))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of ``DATASETS.TRAIN`` from an iteration on."""
        return build_train_loader(self.cfg, start_iter)

    def load_weights(self, path: str | Path) -> None:
        """Give the model the weights of a run of this project, or of a public CAT-Seg release, strictly.

        Raises:
            CheckpointError: the file is missing, corrupt, unsafe, or of another model.
        """
        load_model_weights(path, unwrap(self.model))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics by dataset of ``DATASETS.TEST``, without those of single classes, for the log; none without sets."""
        if not self.cfg.DATASETS.TEST:
            return {}
        results = evaluate_datasets(self.cfg, unwrap(self.model))
        return {name: without_classes(result["sem_seg"]) for name, result in results.items()}

    def report(self) -> None:
        """Evaluate, log the metrics of each dataset, and compare with ``TEST.EXPECTED_RESULTS``.

        Raises:
            ConfigError: no dataset is named.
            SystemExit: with status 1, where a result is not the expected one.
        """
        report_results(self.cfg, evaluate_datasets(self.cfg, unwrap(self.model)))


def read_run_config(config_file: str, opts: Sequence[str], training: bool) -> CfgNode:
    """The configuration of a run, whose weights and datasets have to be there.

    Raises:
        ConfigError, CheckpointError, DataError: something cannot be used, or is not there.
    """
    cfg = get_catseg_cfg(config_file, opts)
    check_inputs(cfg, training)
    state_attention(cfg, "" if training else checkpoint_to_evaluate(cfg))
    return cfg


def optimizer_options(cfg: CfgNode, model: nn.Module) -> OptimizerOptions:
    """CAT-Seg's groups: the encoder's learning rate is multiplied by ``SOLVER.CLIP_MULTIPLIER``."""
    return OptimizerOptions.from_config(
        cfg,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        weight_decay_embed=cfg.SOLVER.WEIGHT_DECAY_EMBED,
        lr_multipliers={"encoder.": cfg.SOLVER.CLIP_MULTIPLIER},
        no_decay={f"encoder.{name}" for name in no_weight_decay(model.encoder)},
    )


TRAINING = Training(read_run_config, SegmentationTrainer)
