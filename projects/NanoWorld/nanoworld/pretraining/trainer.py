"""Pre-training a nano model: the project's training loop with scenes, evaluation and weights."""

import logging
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.loading import endless_loader
from nanoworld.diffusion import SIDE
from nanoworld.evaluation import scenes_of
from nanoworld.pretraining.config import CLIP, DIFFUSION
from nanoworld.pretraining.contrastive import ContrastivePretraining
from nanoworld.pretraining.scenes import CaptionedPhotos, SceneDataset, TwoViews, WholeScenes
from nanoworld.pretraining.self_supervised import SelfSupervisedPretraining

WEIGHTS_FILE = "weights.safetensors"


def build_pretraining(cfg: CfgNode) -> nn.Module:
    """The model of ``MODEL.PRETRAINING`` on ``MODEL.DEVICE``.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    options = cfg.MODEL.PRETRAINING
    if options.KIND == CLIP:
        model: nn.Module = ContrastivePretraining(
            options.ENCODER, grow_from=options.GROW_FROM, drop_path=options.DROP_PATH
        )
    elif options.KIND == DIFFUSION:
        from nanoworld.pretraining.denoising import DenoisingPretraining  # needs an extra

        model = DenoisingPretraining()
    else:
        model = SelfSupervisedPretraining(options.HIDDEN_SHARE, options.REPULSION)
    return model.to(cfg.MODEL.DEVICE)


def build_scenes(cfg: CfgNode) -> SceneDataset:
    """What the model of ``MODEL.PRETRAINING`` learns from."""
    options, seed = cfg.MODEL.PRETRAINING, max(cfg.SEED, 0)
    if options.KIND == CLIP:
        return CaptionedPhotos(seed, options.PHOTOS_PER_SCENE, options.PHOTO_SIZE)
    if options.KIND == DIFFUSION:
        return WholeScenes(seed, SIDE)
    return TwoViews(seed, options.VIEW_SIZE)


class PretrainingTrainer(Trainer):
    """Trains a nano model as a config says.

    Args:
        cfg: the configuration.
        model: of :func:`build_pretraining`.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self.cfg, self.pretraining = cfg, model
        vectors = {name for name, parameter in model.named_parameters() if parameter.dim() < 2}
        optimizer = build_optimizer(model, OptimizerOptions.from_config(cfg, no_decay=vectors))
        super().__init__(model, optimizer, TrainingOptions.from_config(cfg))

    def load_weights(self, path: str | Path) -> None:
        """Give the model the weights of a run's checkpoint, of :meth:`export_beside`, or shipped ones by name.

        Raises:
            CheckpointError: they are missing, corrupt, unsafe, or of another model.
        """
        if Path(path).suffix == ".pth":
            super().load_weights(path)
        else:
            self.pretraining.load(str(path))

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of scenes from an iteration on."""
        solver = self.cfg.SOLVER
        return endless_loader(
            build_scenes(self.cfg),
            seed=max(self.cfg.SEED, 0),
            images_per_batch=solver.IMS_PER_BATCH,
            accumulation_steps=solver.ACCUMULATION_STEPS,
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
            start_iter=start_iter,
        )

    def export_beside(self) -> None:
        """Write the model's weights so far, in half precision, as those take them who use the model."""
        if comm.is_main_process():
            facts = {"iterations": self.iter + 1, "seed": self.cfg.SEED}
            self.pretraining.export(Path(self.cfg.OUTPUT_DIR) / WEIGHTS_FILE, facts)

    def evaluate(self) -> dict:
        """What the model can do by now; empty on processes other than 0."""
        if not comm.is_main_process():
            return {}
        scenes = scenes_of(self.cfg.TEST.SCENE_SEED, self.cfg.TEST.MAX_IMAGES)
        model = self.pretraining.eval()
        try:
            results = model.evaluate(scenes)
        finally:
            model.train()
        logging.getLogger(__name__).info("Evaluated on %d scenes: %s", len(scenes), results)
        return {"nano": results}
