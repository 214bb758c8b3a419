"""Training F-ViT: the project's training loop with a detector's data, schedule and evaluation."""

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import fvit.modeling  # noqa: F401 (registers the meta-architecture)
from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer, warmup_multistep
from d2host.engine.checkpoint import checkpoint_to_evaluate
from d2host.engine.parallel import unwrap
from declip.evaluation.run import report_results
from declip.models.stated import state_attention
from declip.plugins import Training
from fvit.config import get_fvit_cfg
from fvit.data import build_train_loader, check_inputs
from fvit.evaluation import evaluate_detection, without_classes


class DetectionTrainer(Trainer):
    """Trains a :class:`fvit.modeling.FViT` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self.cfg = cfg
        if comm.get_world_size() > 1 and model.device.type == "cuda":  # faster there than what serves any device
            for part in ("pyramid", "proposals", "box_head", "mask_head"):
                if getattr(model, part) is not None:
                    setattr(model, part, nn.SyncBatchNorm.convert_sync_batchnorm(getattr(model, part)))
        decay = cfg.SOLVER.WEIGHT_DECAY_NORM
        optimizer = build_optimizer(model, OptimizerOptions.from_config(cfg, weight_decay_norm=decay))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    def build_schedule(self, start_iter: int) -> LambdaLR:
        """A warm-up, then a constant rate with steps down."""
        solver = self.cfg.SOLVER
        warmup = solver.WARMUP_ITERS, solver.WARMUP_FACTOR
        return warmup_multistep(self.optimizer, solver.STEPS, solver.GAMMA, *warmup, start_iter=start_iter)

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of ``DATASETS.TRAIN`` from an iteration on."""
        return build_train_loader(self.cfg, start_iter)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Metrics by dataset of ``DATASETS.TEST``, without those of single classes, for the log; none without sets."""
        if not self.cfg.DATASETS.TEST:
            return {}
        results = evaluate_detection(self.cfg, unwrap(self.model))
        return {
            f"{name}/{task}" if task != "bbox" else name: without_classes(metrics)
            for name, result in results.items()
            for task, metrics in result.items()
        }

    def report(self) -> None:
        """Evaluate, log the metrics of each dataset, and compare with ``TEST.EXPECTED_RESULTS``.

        Raises:
            ConfigError: no dataset is named.
            SystemExit: with status 1, where a result is not the expected one.
        """
        report_results(self.cfg, evaluate_detection(self.cfg, unwrap(self.model)))


def read_run_config(config_file: str, opts: Sequence[str], training: bool) -> CfgNode:
    """The configuration of a run, whose weights and datasets have to be there.

    Raises:
        ConfigError, CheckpointError, DataError: something cannot be used, or is not there.
    """
    cfg = get_fvit_cfg(config_file, opts)
    check_inputs(cfg, training)
    state_attention(cfg, "" if training else checkpoint_to_evaluate(cfg))
    return cfg


TRAINING = Training(read_run_config, DetectionTrainer)
