"""Encoders judged on datasets: one pass per context type and dataset, one table at the end."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate
from torch.utils.data import Subset

from catseg.data.loader import TestDataset
from catseg.data.mapper import TestMapper
from catseg.evaluation.pictures import PictureWriter
from catseg.evaluation.run import evaluate, without_classes
from catseg.evaluation.sem_seg_evaluator import SemSegEvaluator
from catseg.zero_shot.protocol import Protocol
from catseg.zero_shot.published import published_rows
from catseg.zero_shot.segmenter import ZeroShotSegmenter
from catseg.zero_shot.vocabulary import zero_shot_vocabulary
from d2host import DatasetCatalog, DatasetEvaluator, DatasetEvaluators, comm
from declip.attention import ContextType
from declip.class_embeddings import Templates, cached_names
from declip.encoder import DenseCLIP
from declip.engine.loading import list_loader
from declip.engine.precision import Precision

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
        encoder: on its device; its context type is switched and restored.
        contexts: rows of the table.
        protocols: registered dataset → settings; columns of the table.

    Returns:
        ``{context: {dataset: {metric: percent}}}``; empty on processes other than 0.

    Raises:
        DataError: a dataset is unknown or incomplete.
    """
    options, original = options or ZeroShotOptions(), encoder.context
    results: dict[str, dict[str, dict[str, float]]] = {}
    encoder.eval()
    try:
        for context in contexts:
            encoder.context = context
            for name, protocol in protocols.items():
                result = _evaluate_dataset(encoder, name, protocol, folder / context.value / name, options)
                if result:
                    results.setdefault(context.value, {})[name] = without_classes(result["sem_seg"])
    finally:
        encoder.context = original
    if results:
        write_table(results, folder)
    return results


def _evaluate_dataset(
    encoder: DenseCLIP, name: str, protocol: Protocol, folder: Path, options: ZeroShotOptions
) -> dict:
    vocabulary = zero_shot_vocabulary(name)
    embeddings = cached_names(encoder, vocabulary.names, options.templates, options.cache)
    segmenter = ZeroShotSegmenter(encoder, embeddings, vocabulary, protocol, options.windows_at_once)
    evaluators: list[DatasetEvaluator] = [SemSegEvaluator.of(name, output_folder=folder)]
    if options.pictures:
        evaluators.append(PictureWriter(name, folder / "pictures", options.pictures))
    loader = list_loader(
        _images(name, protocol.short_side, options.max_images),
        options.num_workers,
        batch_size=options.images_at_once,
        shuffle=False,
    )
    description = f"{encoder.context.value} on {name}"
    return evaluate(segmenter, loader, DatasetEvaluators(evaluators), options.precision, description) or {}


def _images(name: str, short_side: int, max_images: int) -> Subset:
    """This process's share of a dataset's images."""
    records = DatasetCatalog.get(name)
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
