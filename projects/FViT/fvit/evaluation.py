"""Evaluating a detector on datasets: one pass over each, its vocabulary switched in, one table at the end."""

from torch import nn

from d2host import CfgNode
from declip.data.detection.datasets import detection_classes
from declip.evaluation.detection import DetectionEvaluator
from declip.evaluation.run import PICTURES, evaluate_test_sets
from fvit.data import build_test_loader
from fvit.visualizer import DetectionVisualizer


def evaluate_detection(cfg: CfgNode, model: nn.Module) -> dict[str, dict]:
    """Evaluate a :class:`fvit.modeling.FViT` by :func:`declip.evaluation.run.evaluate_test_sets`.

    Returns:
        ``{dataset: {"bbox": {metric: percent}}}``, with masks ``segm``, too; empty on processes other than 0.

    Raises:
        ConfigError: no test set is named.
        DataError: a dataset is unknown or incomplete, or a file unreadable.
    """
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON and cfg.TEST.MASKS else ("bbox",)
    pictures = cfg.TEST.VISUALIZE, cfg.TEST.VISUALIZE_SCORE
    return evaluate_test_sets(
        cfg,
        model,
        build_loader=build_test_loader,
        class_names=detection_classes,
        build_evaluators=lambda name, folder: [
            DetectionEvaluator.of(name, tasks=tasks, output_folder=folder),
            *([DetectionVisualizer(name, folder / PICTURES, *pictures)] if cfg.TEST.VISUALIZE else []),
        ],
        tabulate=results_table,
    )


def results_table(results: dict[str, dict]) -> tuple[list[str], list[list[str | float | None]]]:
    """Headers and rows of a table, a row per dataset and task; datasets with groups of classes add columns.

    >>> results_table({"coco": {"bbox": {"AP": 31.5, "AP50": 50.0, "AP50-cat": 9.0, "AP50_novel": 40.0}}})
    (['dataset', 'of', 'AP', 'AP50', 'AP50_novel'], [['coco', 'boxes', 31.5, 50.0, 40.0]])
    """
    kinds = {"bbox": "boxes", "segm": "masks"}
    lines = [
        (name, kinds[task], without_classes(metrics))
        for name, result in results.items()
        for task, metrics in result.items()
    ]
    columns = list(dict.fromkeys(key for *_, metrics in lines for key in metrics))
    return ["dataset", "of", *columns], [[name, kind, *map(metrics.get, columns)] for name, kind, metrics in lines]


def without_classes(metrics: dict[str, float]) -> dict[str, float]:
    """Results without those of single classes."""
    return {name: value for name, value in metrics.items() if not name.startswith("AP50-")}
