"""An encoder evaluated on datasets: one pass over each for all context types, one table at the end."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from d2host import DatasetEvaluator, DatasetEvaluators, comm
from d2host.engine.precision import Precision
from declip.data.datasets import dataset_records
from declip.data.loader import evaluation_loader
from declip.evaluation.results import write_results
from declip.evaluation.run import evaluate, without_classes
from declip.evaluation.sem_seg_evaluator import SemSegEvaluator
from declip.evaluation.visualizer import SegmentationVisualizer
from declip.evaluation.zero_shot.protocol import Protocol
from declip.evaluation.zero_shot.segmenter import ZeroShotSegmenter
from declip.evaluation.zero_shot.vocabulary import zero_shot_vocabulary
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.zero_shot_classifier import Templates, cached_names


@dataclass(frozen=True)
class ZeroShotOptions:
    """What of a run does not change its numbers, or cuts it short.

    Attributes:
        templates: of the prompts.
        precision: of the image tower.
        windows_at_once: windows encoded together.
        images_at_once: images read and decided on together.
        max_images: only the first of each dataset; 0: all.
        visualize: images that are drawn per dataset.
        save_predictions: write every prediction as ``<context>/<dataset>/predictions/<image id>.png``.
        num_workers: processes that load.
        cache: folder of class embeddings; None: none.
    """

    templates: Templates = Templates.IMAGENET
    precision: Precision = Precision.FP32
    windows_at_once: int = 16
    images_at_once: int = 2
    max_images: int = 0
    visualize: int = 0
    save_predictions: bool = False
    num_workers: int = 1
    cache: Path | None = None


def evaluate_zero_shot(
    encoder: DenseCLIP,
    contexts: Sequence[ContextType | Context],
    protocols: Mapping[str, Protocol],
    folder: Path,
    options: ZeroShotOptions | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate dense features of an encoder under each context type on each dataset.

    Writes ``<context>/<dataset>/`` and ``results.{json,md,csv}`` under ``folder``, and logs the table.

    Args:
        encoder: on its device.
        contexts: rows of the table, none twice.
        protocols: registered dataset → settings; columns of the table.

    Returns:
        ``{context: {dataset: {metric: percent}}}``; empty on processes other than 0.

    Raises:
        DataError: a dataset is unknown or incomplete.
    """
    options = options or ZeroShotOptions()
    contexts = list(dict.fromkeys(contexts))
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
    contexts: Sequence[ContextType | Context],
    name: str,
    protocol: Protocol,
    folder: Path,
    options: ZeroShotOptions,
) -> dict[ContextType | Context, dict]:
    vocabulary = zero_shot_vocabulary(name)
    embeddings = cached_names(encoder, vocabulary.names, options.templates, options.cache)
    segmenter = ZeroShotSegmenter(encoder, embeddings, vocabulary, protocol, options.windows_at_once)
    evaluators = {}
    for context in contexts:
        output = folder / context.value.replace(":", "-") / name
        saving = {"output_folder": output, "save_predictions": options.save_predictions}
        evaluators[context] = [SemSegEvaluator.of(name, **saving)]
        if options.visualize:
            evaluators[context].append(SegmentationVisualizer(name, output / "visualizations", options.visualize))
    known = dataset_records(name)
    records = known[: options.max_images or None]
    if len(records) < len(known):
        logging.getLogger(__name__).warning(
            "%s: numbers are of the first %d of %d images, and no match for those of the whole set",
            *(name, len(records), len(known)),
        )
    loader = evaluation_loader(records, segmenter.mapper, options.num_workers, options.images_at_once)
    model, evaluator = _ByContext(segmenter, contexts), _EvaluatorByContext(evaluators)
    description = f"{', '.join(context.value for context in contexts)} on {name}"
    return evaluate(model, loader, evaluator, options.precision, description)


class _ByContext(nn.Module):
    """A segmenter under several context types, as one model."""

    def __init__(self, segmenter: ZeroShotSegmenter, contexts: Sequence[ContextType | Context]) -> None:
        super().__init__()
        self.segmenter, self.contexts = segmenter, contexts
        self.elsewhere = nn.ModuleList(context for context in contexts if isinstance(context, Context))

    @property
    def device(self) -> torch.device:
        return self.segmenter.device

    def forward(self, batch: Sequence[dict]) -> dict[ContextType | Context, list[dict]]:
        return self.segmenter.by_context(batch, self.contexts)


class _EvaluatorByContext(DatasetEvaluator):
    """Hands the outputs under each context type to evaluators of its own."""

    def __init__(self, evaluators: Mapping[ContextType | Context, Sequence[DatasetEvaluator]]) -> None:
        self.evaluators = {context: DatasetEvaluators(list(each)) for context, each in evaluators.items()}

    def reset(self) -> None:
        for evaluator in self.evaluators.values():
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: Mapping[ContextType | Context, list[dict]]) -> None:
        for context, evaluator in self.evaluators.items():
            evaluator.process(inputs, outputs[context])

    def evaluate(self) -> dict[ContextType | Context, dict]:
        """Results by context type; none on processes other than 0."""
        results = {context: evaluator.evaluate() for context, evaluator in self.evaluators.items()}
        return {context: result for context, result in results.items() if result}


def write_table(results: Mapping[str, Mapping[str, Mapping[str, float]]], folder: Path) -> None:
    """Write ``results.{json,md,csv}`` (the table: mIoU, and its mean over datasets) and log the table.

    Args:
        results: context type → dataset → metric → percent.
        folder: of the files.
    """
    datasets = list(next(iter(results.values())))
    rows = []
    for context, by_dataset in results.items():
        values = [by_dataset[name]["mIoU"] for name in datasets]
        rows.append([context, *values, sum(values) / len(values)])
    table = write_results(folder, ["context", *datasets, "mean"], rows, results)
    logging.getLogger(__name__).info("mIoU in percent:\n%s", table)
