"""Is the class token still CLIP's? Zero-shot classification and image-text retrieval by whole images.

* :func:`evaluate_class_token`, :class:`ClassTokenSets`: both, of one encoder
* :func:`retrieval_recall`: recall among embeddings

Source: the question is one that generalized DeCLIP (arXiv 2508.11256) leaves open; the protocols are CLIP's (ICML
2021).
"""

from declip.evaluation.class_token.evaluate import ClassTokenSets, evaluate_class_token
from declip.evaluation.class_token.retrieval import retrieval_recall

__all__ = ["ClassTokenSets", "evaluate_class_token", "retrieval_recall"]
