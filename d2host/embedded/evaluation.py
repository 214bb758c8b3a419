"""Evaluating a model over a dataset, and printing and verifying what came out."""

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping

import torch


class DatasetEvaluator:
    """Collects predictions of a dataset and turns them into results."""

    def reset(self) -> None:
        """Forget what was collected."""

    def process(self, inputs, outputs) -> None:
        """Take one batch: the model's inputs and outputs, pairwise."""

    def evaluate(self) -> dict | None:
        """Results as ``{task: {metric: value}}``; None on processes other than 0."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; their results must not share a task."""

    def __init__(self, evaluators) -> None:
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        """Reset each."""
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs, outputs) -> None:
        """Hand the batch to each."""
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict:
        """All results."""
        results: OrderedDict = OrderedDict()
        for evaluator in self._evaluators:
            for task, values in (evaluator.evaluate() or {}).items():
                assert task not in results, f"two evaluators return results for '{task}'"
                results[task] = values
        return results


def inference_on_dataset(model, data_loader, evaluator) -> dict:
    """Run a model over a loader in evaluation mode, and evaluate; the model's mode is restored."""
    evaluator = DatasetEvaluators(evaluator) if isinstance(evaluator, (list, tuple)) else evaluator
    evaluator = evaluator or DatasetEvaluators([])
    evaluator.reset()
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            for inputs in data_loader:
                evaluator.process(inputs, model(inputs))
    finally:
        if was_training:
            model.train()
    results = evaluator.evaluate()
    return {} if results is None else results


def print_csv_format(results: Mapping) -> None:
    """Log results in ``copypaste:`` lines, a task at a time."""
    logger = logging.getLogger("d2host.results")
    for task, values in results.items():
        logger.info("copypaste: Task: %s", task)
        if isinstance(values, Mapping):
            metrics = [(name, value) for name, value in values.items() if "-" not in name]
            logger.info("copypaste: %s", ",".join(name for name, _ in metrics))
            logger.info("copypaste: %s", ",".join(f"{value:.4f}" for _, value in metrics))
        else:
            logger.info("copypaste: %s=%s", task, values)


def verify_results(cfg, results: Mapping) -> bool:
    """Compare results with ``TEST.EXPECTED_RESULTS`` (task, metric, value, tolerance); True if all agree.

    Raises:
        SystemExit: with status 1, where one does not.
    """
    logger = logging.getLogger("d2host.results")
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        actual = results.get(task, {}).get(metric)
        if actual is None or not math.isfinite(actual) or abs(actual - expected) > tolerance:
            logger.error("%s/%s is %s, expected %s within %s", task, metric, actual, expected, tolerance)
            raise SystemExit(1)
    if cfg.TEST.EXPECTED_RESULTS:
        logger.info("All expected results were met.")
    return True
