"""Evaluation: metrics, the evaluator, pictures, and the run over datasets.

* :func:`evaluate_datasets`, :func:`evaluate`: run a model
* :class:`SemSegEvaluator`: mean IoU and its relatives against label files
* :class:`PictureWriter`: image, prediction and ground truth side by side
* :func:`confusion_matrix`, :func:`compute_metrics`: the numbers
"""

from declip.evaluation.metrics import Metrics, compute_metrics, confusion_matrix
from declip.evaluation.run import evaluate, evaluate_datasets, results_table
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import PictureWriter

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
