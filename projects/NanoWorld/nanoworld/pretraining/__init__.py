"""Where the nano world's models come from: contrastive and self-supervised pre-training on scenes drawn on the fly.

* :class:`ContrastivePretraining`: nano-CLIP, from photos and captions
* :class:`SelfSupervisedPretraining`: nano-VFM, from images alone
* :class:`PretrainingTrainer`, :func:`build_pretraining`, :func:`get_pretraining_cfg`: from a config to weights
"""

from nanoworld.pretraining.config import get_pretraining_cfg
from nanoworld.pretraining.contrastive import ContrastivePretraining
from nanoworld.pretraining.self_supervised import SelfSupervisedPretraining
from nanoworld.pretraining.trainer import PretrainingTrainer, build_pretraining

__all__ = [
    "ContrastivePretraining",
    "PretrainingTrainer",
    "SelfSupervisedPretraining",
    "build_pretraining",
    "get_pretraining_cfg",
]
