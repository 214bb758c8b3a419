"""Dense zero-shot segmentation: how well patch features alone name pixels, without a trained head.

* :class:`Vocabulary`: names per class, and what counts as background
* :class:`ZeroShotSegmenter`: images in, labels out
* :class:`PatchEncoder`: images in, directions of their patches out
* :class:`Protocol`, :data:`PRESETS`: settings per dataset as published
* :func:`evaluate_zero_shot`: datasets and context types in one table

Source: DeCLIP (CVPR 2025), Table 5; ClearCLIP (ECCV 2024).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "patches": ["PatchEncoder"],
        "protocol": ["DATASETS", "PRESETS", "Protocol", "known_presets", "protocol_of"],
        "run": ["evaluate_zero_shot"],
        "segmenter": ["ZeroShotSegmenter"],
        "vocabulary": ["Vocabulary", "zero_shot_vocabulary"],
    },
)
