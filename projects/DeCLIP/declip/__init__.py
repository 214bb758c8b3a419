"""DeCLIP: CLIP image encoders that understand pixels and regions.

* :func:`build_encoder` and :class:`DenseCLIP`: an open_clip model with decoupled dense features
* :class:`ContextType`, :class:`AttentionScale`: how its last block attends
* :class:`DenseCLIPBackbone`: its feature maps under any model of Detectron2
* :class:`FinetunePolicy`, :func:`apply_finetuning`: what of it trains
* :func:`segment`, :func:`load_segmenter`: images into named classes
* :func:`save_encoder`, :func:`load_encoder_weights`: its weights on disk

Names are imported when they are first used, so that what needs no torch does not wait for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "models.attention": ["decoupled_attention"],
        "models.backbone": ["DenseCLIPBackbone"],
        "encoder_segmenter": ["load_segmenter", "segment"],
        "contexts": ["AttentionScale", "ContextType"],
        "models.encoder": ["DenseCLIP"],
        "models.factory": ["build_encoder"],
        "models.features": ["DenseFeatures"],
        "models.finetuning": ["FinetunePolicy", "apply_finetuning"],
        "models.weights": ["load_encoder_weights", "save_encoder"],
        "heatmap": ["Heatmap"],
        "segmentation": ["Segmentation"],
        "segmenter": ["EncodedImage", "Segmenter"],
    },
)
