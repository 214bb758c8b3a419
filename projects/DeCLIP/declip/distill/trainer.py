"""Distilling: the project's training loop with DeCLIP's data, validation and weights."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.errors import ConfigError
from d2host.engine.loading import endless_loader
from declip.data.root import dataset_root
from declip.distill.build import build_dataset
from declip.distill.dataset import UnreadableImages
from declip.distill.student import interpolated_state
from declip.distill.task import Distillation
from declip.evaluation.regions import RegionSet, classify_regions, load_region_set
from declip.models.weights import save_encoder

WEIGHTS_FILE = "declip.safetensors"


class DistillationTrainer(Trainer):
    """Trains the student of a :class:`Distillation` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.

    Raises:
        DataError, ConfigError: images or validation set cannot be had.
    """

    def __init__(self, cfg: CfgNode, model: Distillation) -> None:
        self.cfg, self.distillation = cfg, model
        self.dataset = build_dataset(cfg, model)
        self.unreadable = UnreadableImages(len(self.dataset))
        self.regions = _load_regions(cfg)
        optimizer = build_optimizer(model, optimizer_options(cfg, model))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

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

    def run(self, resume: bool = False) -> None:
        """Train to the end, writing the encoder's weights with every checkpoint; then list the images skipped.

        Raises:
            ConfigError: the output directory holds another run and ``resume`` is not asked for.
        """
        super().run(resume)
        for message in self.unreadable.messages.values():
            logging.getLogger(__name__).warning("Skipped: %s", message)

    def save(self, name: str) -> Path:
        """Save the run and, beside it, the encoder's weights so far."""
        path = super().save(name)
        if comm.is_main_process():
            self.export(Path(self.cfg.OUTPUT_DIR) / WEIGHTS_FILE)
        return path

    def export(self, path: Path) -> Path:
        """Write the student, interpolated with the original, as encoder weights that need no further options."""
        distill, original = self.cfg.MODEL.DISTILL, self.distillation.teachers.clip.encoder
        student = self.distillation.student
        save_encoder(
            student,
            path,
            interpolated_state(student, original, distill.ENSEMBLE_ALPHA),
            student_size=self.cfg.INPUT.STUDENT_SIZE,
            teacher=self.cfg.MODEL.TEACHER.NAME if distill.FORM != "self" else None,
            form=distill.FORM,
            ensemble_alpha=distill.ENSEMBLE_ALPHA,
            iterations=self.iter + 1,
            config_hash=hashlib.sha256(self.cfg.dump().encode()).hexdigest(),
        )
        logging.getLogger(__name__).info("Wrote encoder weights to %s", path)
        return path

    def evaluate(self) -> dict:
        """Region classification by the student as it is; empty on processes other than 0."""
        if self.regions is None or not comm.is_main_process():
            return {}
        student = self.distillation.student.eval()
        try:
            with self.options.precision.autocast(self.device):
                side, max_images = self.cfg.INPUT.STUDENT_SIZE, self.cfg.TEST.MAX_IMAGES
                results = classify_regions(student, self.regions, side, max_images=max_images).summary()
        finally:
            student.train()
        logging.getLogger(__name__).info("Region classification: %s", results)
        return {"regions": results}

    def report(self) -> None:
        """Evaluate, and log the metrics.

        Raises:
            ConfigError: no region set is loaded.
        """
        if self.regions is None:
            raise ConfigError(
                "TEST.EVAL_PERIOD is 0, so no region set is loaded: set it, and TEST.REGIONS, to evaluate"
            )
        super().report()


def _load_regions(cfg: CfgNode) -> RegionSet | None:
    if not cfg.TEST.EVAL_PERIOD:
        return None
    return load_region_set(cfg.TEST.REGIONS, cfg.TEST.IMAGE_ROOT, dataset_root())


def optimizer_options(cfg: CfgNode, model: Distillation) -> OptimizerOptions:
    """AdamW as published; vectors (biases, norms, embeddings of one token) do not decay."""
    vectors = {name for name, parameter in model.named_parameters() if parameter.dim() < 2}
    return OptimizerOptions.from_config(cfg, no_decay=vectors)
