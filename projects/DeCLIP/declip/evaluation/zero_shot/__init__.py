"""Dense zero-shot segmentation: how well patch features alone name pixels, without a trained head.

* :class:`Vocabulary`: names per class, and what counts as background
* :class:`ZeroShotSegmenter`: images in, labels out
* :class:`Protocol`, :data:`PRESETS`: settings per dataset as published
* :func:`evaluate_zero_shot`: datasets and context types in one table

Source: DeCLIP (CVPR 2025), Table 5; ClearCLIP (ECCV 2024).
"""

from declip.evaluation.zero_shot.protocol import DATASETS, PRESETS, Protocol, known_presets, protocol_of
from declip.evaluation.zero_shot.run import evaluate_zero_shot
from declip.evaluation.zero_shot.segmenter import ZeroShotSegmenter
from declip.evaluation.zero_shot.vocabulary import Vocabulary, zero_shot_vocabulary

__all__ = [
    "DATASETS",
    "PRESETS",
    "Protocol",
    "Vocabulary",
    "ZeroShotSegmenter",
    "evaluate_zero_shot",
    "known_presets",
    "protocol_of",
    "zero_shot_vocabulary",
]
