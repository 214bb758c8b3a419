"""Distilling: the project's training loop with DeCLIP's data, validation and weights."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import torch

from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.errors import ConfigError
from d2host.engine.lanes import lane_loader
from d2host.engine.loading import endless_loader
from declip.distill.build import build_class_token_sets, build_dataset, build_regions
from declip.distill.dataset import ShardedViews, UnreadableImages
from declip.distill.step import Distillation
from declip.evaluation.class_token import ClassTokenSets, evaluate_class_token
from declip.evaluation.regions import RegionSet, classify_regions
from declip.models.factory import build_encoder
from declip.models.weights import save_encoder

WEIGHTS_FILE = "declip.safetensors"


class DistillationTrainer(Trainer):
    """Trains the student of a :class:`Distillation` as a config says.

    Args:
        cfg: the configuration.
        model: on its device.
        regions: to validate dense features on; None: they are not.
        whole: images to validate the class token on, against the original's; None: it is not.

    Raises:
        DataError, ConfigError: images cannot be had.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: Distillation,
        regions: RegionSet | None = None,
        whole: ClassTokenSets | None = None,
    ) -> None:
        self.cfg, self.distillation, self.regions, self.whole = cfg, model, regions, whole
        self.dataset = build_dataset(cfg, model)
        in_shards = isinstance(self.dataset, ShardedViews)
        self.unreadable = UnreadableImages(None if in_shards else len(self.dataset))
        optimizer = build_optimizer(model, optimizer_options(cfg, model))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    @classmethod
    def from_config(cls, cfg: CfgNode, model: Distillation) -> "DistillationTrainer":
        """With what ``TEST`` names, where a training is to be validated."""
        validation = (build_regions(cfg), build_class_token_sets(cfg)) if cfg.TEST.EVAL_PERIOD else ()
        if validation and not validation[1]:
            logging.getLogger(__name__).warning(
                "TEST.CAPTIONS and TEST.CLASSES are empty: no validation will tell whether the class token, which no "
                "loss looks at, is still CLIP's"
            )
        return cls(cfg, model, *validation)

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of views from an iteration on."""
        solver, num_workers = self.cfg.SOLVER, self.cfg.DATALOADER.NUM_WORKERS
        if isinstance(self.dataset, ShardedViews):
            lanes = {"images_per_batch": solver.IMS_PER_BATCH, "num_workers": num_workers, "places": self.places}
            return self._watch(lane_loader(self.dataset, **lanes))
        loader = endless_loader(
            self.dataset,
            seed=max(self.cfg.SEED, 0),
            images_per_batch=solver.IMS_PER_BATCH,
            accumulation_steps=solver.ACCUMULATION_STEPS,
            num_workers=num_workers,
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
        """Region classification, and what the class token knows of whole images, by the encoder that is saved.

        Empty where there is nothing to validate on, and on processes other than 0.
        """
        results: dict[str, dict[str, float]] = {}
        encoder, most = self.distillation.encoder(), self.cfg.TEST.MAX_IMAGES
        training = encoder.training
        encoder.eval()
        try:
            with self.options.precision.autocast(self.device):
                if self.regions:  # which all processes share
                    accuracy = classify_regions(encoder, self.regions, self.cfg.INPUT.STUDENT_SIZE, max_images=most)
                    results |= {"regions": accuracy.summary()} if accuracy else {}
                if self.whole and comm.is_main_process():
                    results["class_token"] = evaluate_class_token(encoder, self.whole, max_images=most)
                    results["class_token_original"] = self._original_class_token
        finally:
            encoder.train(training)
        if results:
            logging.getLogger(__name__).info("Validation: %s", results)
        return results

    @cached_property
    def _original_class_token(self) -> dict[str, float]:
        """The same of the encoder before training, which does not change."""
        options = self.cfg.MODEL.ENCODER
        with torch.random.fork_rng():
            torch.manual_seed(max(self.cfg.SEED, 0))  # of weights that are random: those of the student's beginning
            original = build_encoder(options.NAME, options.WEIGHTS, options.CONTEXT, options.ATTENTION_SCALE)
        original = original.to(self.device).eval()
        return evaluate_class_token(original, self.whole, max_images=self.cfg.TEST.MAX_IMAGES)

    def report(self) -> None:
        """Evaluate, and log the metrics.

        Raises:
            ConfigError: there is nothing to evaluate on.
        """
        self.regions = self.regions or build_regions(self.cfg)
        self.whole = self.whole or build_class_token_sets(self.cfg)
        if not (self.regions or self.whole):
            raise ConfigError("TEST.REGIONS is empty: name labelled regions to evaluate on")
        super().report()


def optimizer_options(cfg: CfgNode, model: Distillation) -> OptimizerOptions:
    """AdamW as published; vectors (biases, norms, embeddings of one token) do not decay."""
    vectors = {name for name, parameter in model.named_parameters() if parameter.dim() < 2}
    return OptimizerOptions.from_config(cfg, no_decay=vectors)
