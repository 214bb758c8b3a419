"""Distilling: the project's training loop with DeCLIP's data, validation and weights."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.errors import ConfigError
from d2host.engine.loading import endless_loader
from declip.distill.build import build_dataset, build_regions
from declip.distill.dataset import UnreadableImages
from declip.distill.step import Distillation
from declip.evaluation.regions import RegionSet, classify_regions
from declip.models.weights import save_encoder

WEIGHTS_FILE = "declip.safetensors"


class DistillationTrainer(Trainer):
    """Trains the student of a :class:`Distillation` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
        regions: to validate on; None: no validation.

    Raises:
        DataError, ConfigError: images cannot be had.
    """

    def __init__(self, cfg: CfgNode, model: Distillation, regions: RegionSet | None = None) -> None:
        self.cfg, self.distillation, self.regions = cfg, model, regions
        self.dataset = build_dataset(cfg, model)
        self.unreadable = UnreadableImages(len(self.dataset))
        optimizer = build_optimizer(model, optimizer_options(cfg, model))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    @classmethod
    def from_config(cls, cfg: CfgNode, model: Distillation) -> "DistillationTrainer":
        """With the regions of ``TEST.REGIONS``, where a training is to be validated."""
        return cls(cfg, model, build_regions(cfg) if cfg.TEST.EVAL_PERIOD else None)

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of views from an iteration on."""
        solver = self.cfg.SOLVER
        loader = endless_loader(
            self.dataset,
            seed=max(self.cfg.SEED, 0),
            images_per_batch=solver.IMS_PER_BATCH,
            accumulation_steps=solver.ACCUMULATION_STEPS,
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
            start_iter=start_iter,
        )
        return self._watch(loader)

    def _watch(self, loader: Iterable[list[dict]]) -> Iterator[list[dict]]:
        for batch in loader:
            self.unreadable.add(batch)
            yield batch

    def run(self, checkpoint: Path | None = None) -> None:
        """Train to the end, writing the encoder's weights with every checkpoint; then list the images skipped.

        Raises:
            ConfigError, CheckpointError, OutputError: see :meth:`Trainer.run`.
        """
        super().run(checkpoint)
        for message in self.unreadable.messages.values():
            logging.getLogger(__name__).warning("Skipped: %s", message)

    def export_beside(self) -> None:
        """Write the encoder's weights so far."""
        if comm.is_main_process():
            self.export(Path(self.cfg.OUTPUT_DIR) / WEIGHTS_FILE)

    def export(self, path: Path) -> Path:
        """Write the encoder that is evaluated as weights that need no further options."""
        distill, teachers = self.cfg.MODEL.DISTILL, self.distillation.teachers
        save_encoder(
            self.distillation.encoder(),
            path,
            student_size=self.cfg.INPUT.STUDENT_SIZE,
            teacher=self.cfg.MODEL.TEACHER.NAME if "foundation" in teachers else None,
            diffusion=self.cfg.MODEL.DIFFUSION.NAME or None,
            terms=list(distill.TERMS),
            ensemble_alpha=distill.ENSEMBLE_ALPHA,
            iterations=self.iter + 1,
            config_hash=hashlib.sha256(self.cfg.dump().encode()).hexdigest(),
        )
        logging.getLogger(__name__).info("Wrote encoder weights to %s", path)
        return path

    def evaluate(self) -> dict:
        """Region classification by the encoder that is saved; empty without regions, and on processes other than 0."""
        if self.regions is None or not comm.is_main_process():
            return {}
        encoder, side = self.distillation.encoder(), self.cfg.INPUT.STUDENT_SIZE
        training = encoder.training
        encoder.eval()
        try:
            with self.options.precision.autocast(self.device):
                accuracy = classify_regions(encoder, self.regions, side, max_images=self.cfg.TEST.MAX_IMAGES)
        finally:
            encoder.train(training)
        results = accuracy.summary()
        logging.getLogger(__name__).info("Region classification: %s", results)
        return {"regions": results}

    def report(self) -> None:
        """Evaluate, and log the metrics.

        Raises:
            ConfigError: no labelled regions are named.
        """
        self.regions = self.regions or build_regions(self.cfg)
        if self.regions is None:
            raise ConfigError("TEST.REGIONS is empty: name labelled regions to evaluate on")
        super().report()


def optimizer_options(cfg: CfgNode, model: Distillation) -> OptimizerOptions:
    """AdamW as published; vectors (biases, norms, embeddings of one token) do not decay."""
    vectors = {name for name, parameter in model.named_parameters() if parameter.dim() < 2}
    return OptimizerOptions.from_config(cfg, no_decay=vectors)
