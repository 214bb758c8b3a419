"""Training CAT-Seg: the project's training loop with CAT-Seg's data, optimizer groups and evaluation."""

import logging
from collections.abc import Iterable

from torch import nn

from catseg.loader import build_train_loader
from d2host import CfgNode
from d2host.engine import ConfiguredTrainer, OptimizerOptions, build_optimizer
from d2host.engine.checkpoint import unwrap
from declip.evaluation.run import evaluate_datasets, without_classes
from declip.models.finetuning import no_weight_decay


class SegmentationTrainer(ConfiguredTrainer):
    """Trains a :class:`catseg.modeling.CATSeg` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        super().__init__(cfg, model, build_optimizer(model, optimizer_options(cfg, model)))

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of ``DATASETS.TRAIN`` from an iteration on."""
        return build_train_loader(self.cfg, start_iter)

    def evaluate(self) -> dict:
        """Metrics of the model as it is, without those of single classes, for the log; none without test sets."""
        if not self.cfg.DATASETS.TEST:
            return {}
        results = evaluate_datasets(self.cfg, unwrap(self.model))
        return {name: without_classes(result["sem_seg"]) for name, result in results.items()}


def optimizer_options(cfg: CfgNode, model: nn.Module) -> OptimizerOptions:
    """CAT-Seg's groups: the encoder's learning rate is multiplied by ``SOLVER.CLIP_MULTIPLIER``."""
    solver = cfg.SOLVER
    return OptimizerOptions(
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        lr_multipliers={"encoder.": solver.CLIP_MULTIPLIER},
        no_decay={f"encoder.{name}" for name in no_weight_decay(model.encoder)},
    )


def log_size(model: nn.Module) -> None:
    """Log how many parameters there are and how many train."""
    total = sum(parameter.numel() for parameter in model.parameters())
    training = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logging.getLogger(__name__).info("%.1f M parameters, of which %.1f M train", total / 1e6, training / 1e6)
