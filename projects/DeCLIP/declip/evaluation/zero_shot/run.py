"""An encoder judged on datasets: one pass over each for all context types, one table at the end."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.data import Subset

from d2host import DatasetEvaluator, DatasetEvaluators, comm
from d2host.engine.loading import list_loader
from d2host.engine.precision import Precision
from declip.data.datasets import dataset_records
from declip.data.loader import TestDataset
from declip.data.mapper import TestMapper
from declip.evaluation.run import evaluate, without_classes
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import PictureWriter
from declip.evaluation.zero_shot.protocol import Protocol
from declip.evaluation.zero_shot.published import published_rows
from declip.evaluation.zero_shot.segmenter import ZeroShotSegmenter
from declip.evaluation.zero_shot.vocabulary import zero_shot_vocabulary
from declip.models.attention import ContextType
from declip.models.encoder import DenseCLIP
from declip.models.zero_shot_classifier import Templates, cached_names

LONGEST_SIDE = 10_000  # no limit in practice: only the shorter side is prescribed


@dataclass(frozen=True)
class ZeroShotOptions:
    """What of a run does not change its numbers, or cuts it short.

    Attributes:
        templates: of the prompts.
        precision: of the image tower.
        windows_at_once: windows encoded together.
        images_at_once: images read and decided on together.
        max_images: only the first of each dataset; 0: all.
        pictures: that are drawn per dataset.
        num_workers: processes that load.
        cache: folder of class embeddings; None: none.
    """

    templates: Templates = Templates.IMAGENET
    precision: Precision = Precision.FP32
    windows_at_once: int = 16
    images_at_once: int = 2
    max_images: int = 0
    pictures: int = 0
    num_workers: int = 1
    cache: Path | None = None


def evaluate_zero_shot(
    encoder: DenseCLIP,
    contexts: Sequence[ContextType],
    protocols: Mapping[str, Protocol],
    folder: Path,
    options: ZeroShotOptions | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate dense features of an encoder under each context type on each dataset.

    Writes ``<context>/<dataset>/`` and ``results.{json,md}`` under ``folder``, and logs the table.

    Args:
        encoder: on its device.
        contexts: rows of the table.
        protocols: registered dataset → settings; columns of the table.

    Returns:
        ``{context: {dataset: {metric: percent}}}``; empty on processes other than 0.

    Raises:
        DataError: a dataset is unknown or incomplete.
    """
    options = options or ZeroShotOptions()
    results: dict[str, dict[str, dict[str, float]]] = {context.value: {} for context in contexts}
    encoder.eval()
    for name, protocol in protocols.items():
        for context, result in _evaluate_dataset(encoder, contexts, name, protocol, folder, options).items():
            results[context.value][name] = without_classes(result["sem_seg"])
    if not comm.is_main_process():
        return {}
    write_table(results, folder)
    return results


def _evaluate_dataset(
    encoder: DenseCLIP,
    contexts: Sequence[ContextType],
    name: str,
    protocol: Protocol,
    folder: Path,
    options: ZeroShotOptions,
) -> dict[ContextType, dict]:
    vocabulary = zero_shot_vocabulary(name)
    embeddings = cached_names(encoder, vocabulary.names, options.templates, options.cache)
    segmenter = ZeroShotSegmenter(encoder, embeddings, vocabulary, protocol, options.windows_at_once)
    evaluators = {}
    for context in contexts:
        output = folder / context.value / name
        evaluators[context] = [SemSegEvaluator.of(name, output_folder=output)]
        if options.pictures:
            evaluators[context].append(PictureWriter(name, output / "pictures", options.pictures))
    loader = list_loader(
        _images(name, protocol.short_side, options.max_images),
        options.num_workers,
        batch_size=options.images_at_once,
        shuffle=False,
    )
    model, evaluator = _ByContext(segmenter, contexts), _EvaluatorByContext(evaluators)
    description = f"{', '.join(context.value for context in contexts)} on {name}"
    return evaluate(model, loader, evaluator, options.precision, description)


class _ByContext(nn.Module):
    """A segmenter under several context types, as one model."""

    def __init__(self, segmenter: ZeroShotSegmenter, contexts: Sequence[ContextType]) -> None:
        super().__init__()
        self.segmenter, self.contexts = segmenter, contexts

    @property
    def device(self) -> torch.device:
        return self.segmenter.device

    def forward(self, batch: Sequence[dict]) -> dict[ContextType, list[dict]]:
        return self.segmenter.by_context(batch, self.contexts)


class _EvaluatorByContext(DatasetEvaluator):
    """Hands the outputs under each context type to evaluators of its own."""

    def __init__(self, evaluators: Mapping[ContextType, Sequence[DatasetEvaluator]]) -> None:
        self.evaluators = {context: DatasetEvaluators(list(each)) for context, each in evaluators.items()}

    def reset(self) -> None:
        for evaluator in self.evaluators.values():
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: Mapping[ContextType, list[dict]]) -> None:
        for context, evaluator in self.evaluators.items():
            evaluator.process(inputs, outputs[context])

    def evaluate(self) -> dict[ContextType, dict]:
        """Results by context type; none on processes other than 0."""
        results = {context: evaluator.evaluate() for context, evaluator in self.evaluators.items()}
        return {context: result for context, result in results.items() if result}


def _images(name: str, short_side: int, max_images: int) -> Subset:
    """This process's share of a dataset's images."""
    records = dataset_records(name)
    records = records[: max_images or len(records)]
    dataset = TestDataset(records, TestMapper(short_side, LONGEST_SIDE))
    rank, world_size = comm.get_rank(), comm.get_world_size()
    return Subset(dataset, range(len(records) * rank // world_size, len(records) * (rank + 1) // world_size))


def write_table(results: Mapping[str, Mapping[str, Mapping[str, float]]], folder: Path) -> None:
    """Write ``results.json`` and ``results.md`` (mIoU, and the mean over datasets) and log the table.

    Published results follow where a dataset has any.
    """
    datasets = list(next(iter(results.values())))
    rows = []
    for context, by_dataset in results.items():
        values = [by_dataset[name]["mIoU"] for name in datasets]
        rows.append([context, *values, sum(values) / len(values)])
    rows += published_rows(datasets)
    table = tabulate(rows, ["context", *datasets, "mean"], tablefmt="github", floatfmt=".2f", missingval="-")
    logging.getLogger(__name__).info("mIoU in percent:\n%s", table)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(table + "\n", encoding="utf-8")
    finite = {
        context: {
            name: {key: value if math.isfinite(value) else None for key, value in metrics.items()}
            for name, metrics in by_dataset.items()
        }
        for context, by_dataset in results.items()
    }
    (folder / "results.json").write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8")
