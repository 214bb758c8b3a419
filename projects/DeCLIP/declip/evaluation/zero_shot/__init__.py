import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "protocol": ["DATASETS", "PRESETS", "Protocol", "known_presets", "protocol_of"],
        "run": ["evaluate_zero_shot"],
        "segmenter": ["ZeroShotSegmenter"],
        "vocabulary": ["Vocabulary", "zero_shot_vocabulary"],
        "windows": ["WindowGrid"],
    },
)
