"""Evaluation: metrics, the evaluator, the visualizer, and the run over datasets.

* :func:`evaluate_datasets`, :func:`evaluate`: run a model
* :class:`SemSegEvaluator`: mean IoU and its relatives against label files
* :class:`SegmentationVisualizer`: image, prediction and ground truth side by side
* :func:`confusion_matrix`, :func:`compute_metrics`: the numbers
* :mod:`zero_shot`: dense zero-shot segmentation; :mod:`regions`: region classification
* :mod:`results`: tables on disk
"""

from declip.evaluation.metrics import Metrics, compute_metrics, confusion_matrix
from declip.evaluation.run import evaluate, evaluate_datasets
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import SegmentationVisualizer

__all__ = [
    "Metrics",
    "SegmentationVisualizer",
    "SemSegEvaluator",
    "compute_metrics",
    "confusion_matrix",
    "evaluate",
    "evaluate_datasets",
]
