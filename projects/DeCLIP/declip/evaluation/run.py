"""Evaluating a model on datasets: one pass over each, its vocabulary switched in, one table at the end."""

import csv
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from d2host import CfgNode, DatasetEvaluator, DatasetEvaluators, comm
from d2host.engine.precision import Precision
from declip.data.datasets import vocabulary
from declip.data.loader import build_test_loader
from declip.evaluation.published import published_columns
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import PictureWriter

COLUMNS = ("mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC")


def evaluate_datasets(cfg: CfgNode, model: nn.Module) -> dict[str, dict]:
    """Evaluate a :class:`catseg.modeling.CATSeg` on every set of ``DATASETS.TEST``.

    Writes ``inference/<dataset>/`` (results, per-class table, pictures) and ``inference/results.{json,md,csv}`` under
    ``OUTPUT_DIR``, and logs the table.

    Returns:
        ``{dataset: {"sem_seg": {metric: percent}}}``; empty on processes other than 0.

    Raises:
        DataError: a dataset is unknown or incomplete, or a file unreadable.
    """
    loaders = {name: build_test_loader(cfg, name) for name in cfg.DATASETS.TEST}
    folder = Path(cfg.OUTPUT_DIR) / "inference"
    precision = Precision(cfg.TEST.AMP.DTYPE) if cfg.TEST.AMP.ENABLED else Precision.FP32
    results = {}
    for name, loader in loaders.items():
        model.set_vocabulary(vocabulary(name))
        evaluators: list[DatasetEvaluator] = [
            SemSegEvaluator.of(name, output_folder=folder / name, save_predictions=cfg.TEST.SAVE_PREDICTIONS)
        ]
        if cfg.TEST.VISUALIZE:
            evaluators.append(PictureWriter(name, folder / name / "pictures", cfg.TEST.VISUALIZE))
        results[name] = evaluate(model, loader, DatasetEvaluators(evaluators), precision, description=name)
    if not comm.is_main_process():
        return {}
    write_results(results, folder)
    return results


def evaluate(
    model: nn.Module,
    loader: DataLoader,
    evaluator: DatasetEvaluator,
    precision: Precision = Precision.FP32,
    description: str = "evaluating",
) -> dict:
    """Run a model over a loader in evaluation mode with a progress bar; the model's mode is restored.

    Returns:
        The evaluator's results; None or empty on processes other than 0.
    """
    was_training = model.training
    model.eval()
    evaluator.reset()
    progress = dict(total=len(loader.sampler), desc=description, unit="image", disable=not comm.is_main_process())
    try:
        with torch.no_grad(), precision.autocast(model.device), tqdm(**progress) as bar:
            for inputs in loader:
                evaluator.process(inputs, model(inputs))
                bar.update(len(inputs))
    finally:
        model.train(was_training)
    return evaluator.evaluate()


def results_table(results: dict[str, dict], columns: Sequence[str] = COLUMNS) -> str:
    """Results of several datasets as a Markdown table.

    Further columns follow where a dataset has groups of classes, or published results to compare with.
    """
    summaries = {name: without_classes(result["sem_seg"]) for name, result in results.items()}
    more = [key for summary in summaries.values() for key in summary if key not in columns]
    headers = [*columns, *dict.fromkeys(more)]
    rows = [[name, *(summary.get(column) for column in headers)] for name, summary in summaries.items()]
    published = published_columns(list(summaries))
    rows = [[*row, *values] for row, *values in zip(rows, *published.values(), strict=True)]
    return tabulate(rows, headers=["dataset", *headers, *published], tablefmt="github", floatfmt=".2f", missingval="-")


def without_classes(summary: dict[str, float]) -> dict[str, float]:
    """Results without those of single classes."""
    return {name: value for name, value in summary.items() if not name.startswith("IoU-")}


def write_results(results: dict[str, dict], folder: Path) -> None:
    """Write ``results.json``, ``results.md`` and ``results.csv`` and log the table."""
    table = results_table(results)
    logging.getLogger(__name__).info("Results in percent:\n%s", table)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(table + "\n", encoding="utf-8")
    finite = {
        name: {key: value if math.isfinite(value) else None for key, value in result["sem_seg"].items()}
        for name, result in results.items()
    }
    (folder / "results.json").write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8")
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", *COLUMNS])
        writer.writerows([name, *(values.get(column) for column in COLUMNS)] for name, values in finite.items())
