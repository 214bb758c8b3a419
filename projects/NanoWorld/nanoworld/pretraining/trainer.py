"""Pre-training a nano model: the project's training loop with scenes, evaluation and weights."""

import logging
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from d2host import CfgNode, comm
from d2host.engine import OptimizerOptions, Trainer, TrainingOptions, build_optimizer
from d2host.engine.loading import endless_loader
from declip.models.factory import build_encoder
from declip.models.weights import save_encoder
from declip.weights.files import half_precision, save_tensors
from nanoworld.evaluation import close_up_accuracy, evaluate_affinities, scenes_of
from nanoworld.pretraining.config import CLIP
from nanoworld.pretraining.contrastive import ContrastivePretraining
from nanoworld.pretraining.scenes import CaptionedPhotos, SceneDataset, TwoViews
from nanoworld.pretraining.self_supervised import SelfSupervisedPretraining
from nanoworld.vfm import VFM_NAME, create_nano_vfm

WEIGHTS_FILE = "weights.safetensors"


def build_pretraining(cfg: CfgNode) -> nn.Module:
    """The model of ``MODEL.PRETRAINING`` on ``MODEL.DEVICE``."""
    options = cfg.MODEL.PRETRAINING
    if options.KIND == CLIP:
        model: nn.Module = ContrastivePretraining()
    else:
        model = SelfSupervisedPretraining(options.HIDDEN_SHARE, options.REPULSION)
    return model.to(cfg.MODEL.DEVICE)


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
        """Give the model the weights of a run's checkpoint, of :meth:`export`, or those that are shipped by name.

        Raises:
            CheckpointError: they are missing, corrupt, unsafe, or of another model.
        """
        if Path(path).suffix == ".pth":
            super().load_weights(path)
        elif isinstance(self.pretraining, ContrastivePretraining):
            self.pretraining.encoder.load_state_dict(build_encoder("nano", path, context="vanilla").state_dict())
        else:
            self.pretraining.backbone.load_state_dict(create_nano_vfm(str(path)).state_dict())

    def build_train_loader(self, start_iter: int) -> Iterable[list[dict]]:
        """Batches of scenes from an iteration on."""
        solver, options = self.cfg.SOLVER, self.cfg.MODEL.PRETRAINING
        seed = max(self.cfg.SEED, 0)
        dataset: SceneDataset = (
            CaptionedPhotos(seed, options.PHOTOS_PER_SCENE, options.PHOTO_SIZE)
            if options.KIND == CLIP
            else TwoViews(seed, options.VIEW_SIZE)
        )
        return endless_loader(
            dataset,
            seed=seed,
            images_per_batch=solver.IMS_PER_BATCH,
            accumulation_steps=solver.ACCUMULATION_STEPS,
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
            start_iter=start_iter,
        )

    def export_beside(self) -> None:
        """Write the model's weights so far, in half precision."""
        if comm.is_main_process():
            self.export(Path(self.cfg.OUTPUT_DIR) / WEIGHTS_FILE)

    def export(self, path: Path) -> Path:
        """Write the weights as ``MODEL.ENCODER.WEIGHTS`` or ``MODEL.TEACHER.WEIGHTS`` take them."""
        facts = {"iterations": self.iter + 1, "seed": self.cfg.SEED}
        if isinstance(self.pretraining, ContrastivePretraining):
            encoder = self.pretraining.encoder
            save_encoder(encoder, path, half_precision(encoder.clip.state_dict()), **facts)
        else:
            state = self.pretraining.backbone.state_dict()
            save_tensors(half_precision(state), path, {"model": VFM_NAME, **facts})
        return path

    def evaluate(self) -> dict:
        """Close-up accuracy of a nano-CLIP, affinities of a nano-VFM; empty on processes other than 0."""
        if not comm.is_main_process():
            return {}
        scenes = scenes_of(self.cfg.TEST.SCENE_SEED, self.cfg.TEST.MAX_IMAGES)
        model = self.pretraining.eval()
        try:
            if isinstance(model, ContrastivePretraining):
                results = close_up_accuracy(model.encoder, scenes)
            else:
                results = evaluate_affinities(model.features, scenes)
        finally:
            model.train()
        logging.getLogger(__name__).info("Evaluated on %d scenes: %s", len(scenes), results)
        return {"nano": results}
