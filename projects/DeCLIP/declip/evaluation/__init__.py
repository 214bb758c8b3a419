import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "metrics": ["Metrics", "compute_metrics", "confusion_matrix"],
        "run": ["evaluate", "evaluate_datasets", "results_table"],
        "sem_seg_evaluator": ["SemSegEvaluator"],
        "visualizer": ["PictureWriter"],
    },
)
