"""Where the nano world's models come from: contrastive and self-supervised pre-training on scenes drawn on the fly.

* :class:`ContrastivePretraining`: nano-CLIP, from photos and captions
* :class:`SelfSupervisedPretraining`: nano-VFM, from images alone
* :class:`PretrainingTrainer`, :func:`build_pretraining`, :func:`get_pretraining_cfg`: from a config to weights
"""

from declip.nano.pretraining.config import get_pretraining_cfg
from declip.nano.pretraining.contrastive import ContrastivePretraining
from declip.nano.pretraining.self_supervised import SelfSupervisedPretraining
from declip.nano.pretraining.trainer import PretrainingTrainer, build_pretraining

__all__ = [
    "ContrastivePretraining",
    "PretrainingTrainer",
    "SelfSupervisedPretraining",
    "build_pretraining",
    "get_pretraining_cfg",
]
