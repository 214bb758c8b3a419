"""DeCLIP: CLIP image encoders that understand pixels and regions.

* :func:`build_encoder` and :class:`DenseCLIP`: an open_clip model with decoupled dense features
* :class:`ContextType`, :class:`AttentionScale`: how its last block attends
* :class:`FinetunePolicy`, :func:`apply_finetuning`: what of it trains
* :func:`save_encoder`, :func:`load_encoder_weights`: its weights on disk
"""

from declip.models.attention import AttentionScale, ContextType, decoupled_attention
from declip.models.encoder import DenseCLIP, DenseFeatures
from declip.models.factory import build_encoder
from declip.models.finetuning import FinetunePolicy, apply_finetuning
from declip.models.weights import load_encoder_weights, save_encoder

__all__ = [
    "AttentionScale",
    "ContextType",
    "DenseCLIP",
    "DenseFeatures",
    "FinetunePolicy",
    "apply_finetuning",
    "build_encoder",
    "decoupled_attention",
    "load_encoder_weights",
    "save_encoder",
]
