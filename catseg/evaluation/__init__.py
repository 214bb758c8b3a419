"""Evaluation: metrics, the evaluator, pictures, and the run over datasets.

* :func:`evaluate_datasets`, :func:`evaluate`: run a model
* :class:`SemSegEvaluator`: mean IoU and its relatives against label files
* :class:`PictureWriter`: image, prediction and ground truth side by side
* :func:`confusion_matrix`, :func:`compute_metrics`: the numbers
"""

from catseg.evaluation.metrics import Metrics, compute_metrics, confusion_matrix
from catseg.evaluation.pictures import PictureWriter
from catseg.evaluation.run import evaluate, evaluate_datasets, results_table
from catseg.evaluation.sem_seg_evaluator import SemSegEvaluator

__all__ = [
    "Metrics",
    "PictureWriter",
    "SemSegEvaluator",
    "compute_metrics",
    "confusion_matrix",
    "evaluate",
    "evaluate_datasets",
    "results_table",
]
