"""Evaluation: metrics, the evaluator, the visualizer, and the run over datasets.

* :func:`evaluate_datasets`, :func:`evaluate`: run a model
* :class:`SemSegEvaluator`: mean IoU and its relatives against label files
* :class:`SegmentationVisualizer`: image, prediction and ground truth side by side
* :func:`confusion_matrix`, :func:`compute_metrics`: the numbers
* :mod:`zero_shot`: dense zero-shot segmentation; :mod:`regions`: region classification
* :mod:`detection`: average precision of detectors
* :mod:`results`: tables on disk
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "metrics": ["Metrics", "compute_metrics", "confusion_matrix"],
        "run": ["evaluate", "evaluate_datasets"],
        "sem_seg_evaluator": ["SemSegEvaluator"],
        "visualizer": ["SegmentationVisualizer"],
    },
)
