"""Evaluating a model on datasets: one pass over each, its vocabulary switched in, one table at the end."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from d2host import CfgNode, DatasetEvaluator, DatasetEvaluators, comm, print_csv_format, verify_results
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision, amp_precision
from declip.data.datasets import vocabulary
from declip.data.loader import build_test_loader
from declip.evaluation.results import write_results
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import SegmentationVisualizer

PICTURES = "visualizations"  # folder of a dataset's


def evaluate_datasets(cfg: CfgNode, model: nn.Module) -> dict[str, dict]:
    """Evaluate a :class:`catseg.modeling.CATSeg` by :func:`evaluate_test_sets`; folders also get a table of classes.

    Returns:
        ``{dataset: {"sem_seg": {metric: percent}}}``; empty on processes other than 0.

    Raises:
        ConfigError: no test set is named.
        DataError: a dataset is unknown or incomplete, or a file unreadable.
    """
    return evaluate_test_sets(
        cfg,
        model,
        build_loader=build_test_loader,
        class_names=vocabulary,
        build_evaluators=lambda name, folder: [
            SemSegEvaluator.of(name, output_folder=folder, save_predictions=cfg.TEST.SAVE_PREDICTIONS),
            *([SegmentationVisualizer(name, folder / PICTURES, cfg.TEST.VISUALIZE)] if cfg.TEST.VISUALIZE else []),
        ],
        tabulate=results_table,
        content=lambda result: result["sem_seg"],
    )


def evaluate_test_sets(
    cfg: CfgNode,
    model: nn.Module,
    *,
    build_loader: Callable[[CfgNode, str], DataLoader],
    class_names: Callable[[str], Sequence[str]],
    build_evaluators: Callable[[str, Path], Sequence[DatasetEvaluator]],
    tabulate: Callable[[dict[str, dict]], tuple[list[str], list[list]]],
    content: Callable[[dict], dict] = dict,
) -> dict[str, dict]:
    """The results of a model on every set of ``DATASETS.TEST``, the vocabulary of each switched in.

    Writes ``inference/<dataset>/`` and ``inference/results.{json,md,csv}`` under ``OUTPUT_DIR``, and logs the table.

    Args:
        cfg: which sets, in which precision (``TEST.AMP``), and where results go.
        model: has ``set_vocabulary`` and ``device``.
        build_loader: the loader of a dataset, by name; all are built before the first is evaluated.
        class_names: of a dataset, by name.
        build_evaluators: of a dataset, by name and the folder that they write to.
        tabulate: results → headers and rows of the table.
        content: what of a dataset's results ``results.json`` holds.

    Returns:
        What the evaluators say, by dataset; empty on processes other than 0.

    Raises:
        ConfigError: no test set is named.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST names no dataset to evaluate on: set it, for instance to ('nano_val',)")
    loaders = {name: build_loader(cfg, name) for name in cfg.DATASETS.TEST}
    precision = amp_precision(cfg.TEST.AMP, model.device)
    results = {}
    for name, loader in loaders.items():
        model.set_vocabulary(class_names(name))
        evaluators = DatasetEvaluators(build_evaluators(name, results_folder(cfg) / name))
        results[name] = evaluate(model, loader, evaluators, precision, description=name)
    if not comm.is_main_process():
        return {}
    written = {name: content(result) for name, result in results.items()}
    table = write_results(results_folder(cfg), *tabulate(results), written)
    logging.getLogger(__name__).info("Results in percent:\n%s", table)
    return results


def results_folder(cfg: CfgNode) -> Path:
    """Where an evaluation writes."""
    return Path(cfg.OUTPUT_DIR) / "inference"


def report_results(cfg: CfgNode, results: dict[str, dict]) -> None:
    """Log the metrics of each dataset, and compare the first's with ``TEST.EXPECTED_RESULTS``.

    Raises:
        SystemExit: with status 1, where a result is not the expected one.
    """
    if not comm.is_main_process():
        return
    for name, result in results.items():
        logging.getLogger(__name__).info("copypaste: Dataset: %s", name)
        print_csv_format(result)
    verify_results(cfg, results[cfg.DATASETS.TEST[0]])


def evaluate(
    model: nn.Module,
    loader: DataLoader,
    evaluator: DatasetEvaluator,
    precision: Precision = Precision.FP32,
    description: str = "evaluating",
) -> dict:
    """Run a model over a loader in evaluation mode with a progress bar; the model's mode is restored.

    A model that can ``predict_labels`` does, in bounded memory; of any other, scores as Detectron2's models give them
    are evaluated.

    Returns:
        The evaluator's results; None or empty on processes other than 0.
    """
    was_training, predict = model.training, getattr(model, "predict_labels", model)
    model.eval()
    evaluator.reset()
    progress = dict(total=len(loader.sampler), desc=description, unit="image", disable=not comm.is_main_process())
    try:
        with torch.no_grad(), precision.autocast(model.device), tqdm(**progress) as bar:
            for inputs in loader:
                evaluator.process(inputs, predict(inputs))
                bar.update(len(inputs))
    finally:
        model.train(was_training)
    return evaluator.evaluate()


def results_table(results: dict[str, dict]) -> tuple[list[str], list[list[str | float | None]]]:
    """Headers and rows of a table, a row per dataset; datasets with groups of classes add columns.

    >>> results_table({"ade": {"sem_seg": {"mIoU": 31.5, "pACC": 70.2, "IoU-cat": 9.0, "mIoU_seen": 40.0}}})
    (['dataset', 'mIoU', 'pACC', 'mIoU_seen'], [['ade', 31.5, 70.2, 40.0]])
    """
    summaries = {name: without_classes(result["sem_seg"]) for name, result in results.items()}
    columns = list(dict.fromkeys(key for summary in summaries.values() for key in summary))
    rows = [[name, *map(summary.get, columns)] for name, summary in summaries.items()]
    return ["dataset", *columns], rows


def without_classes(summary: dict[str, float]) -> dict[str, float]:
    """Results without those of single classes."""
    return {name: value for name, value in summary.items() if not name.startswith("IoU-")}
